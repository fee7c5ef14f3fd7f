use super::super::lex::lex;
use super::*;

fn unit(name: &str, text: &str) -> (SocketUnit, Vec<String>, Vec<String>) {
    let mut remarks = Vec::new();
    let assignments = lex(name, text.as_bytes(), &mut remarks);
    let outside = |letter| (letter == 't').then(|| "/run".to_string());
    let (unit, left) = read(&UnitName::parse(name).unwrap(), &assignments, &outside, &mut remarks);
    let left = left.iter().map(|one| one.key.clone()).collect();
    (unit, left, remarks.iter().map(Remark::to_string).collect())
}

fn shown(unit: &SocketUnit) -> Vec<String> {
    unit.sockets.iter().map(|one| format!("{} {} {}", one.name, one.kind_word(), one.address)).collect()
}

#[test]
fn lines_of_all_kinds_in_their_order() {
    let text = "[Socket]\nListenStream=8080\nListenDatagram=127.0.0.1:53\nListenFIFO=%t/%p/f\n\
                ListenSequentialPacket=@s\nListenStream=%t/web.sock\n";
    let (unit, left, remarks) = unit("web.socket", text);
    let expected = [
        "web.socket tcp [::]:8080",
        "web.socket udp 127.0.0.1:53",
        "web.socket fifo /run/web/f",
        "web.socket seqpacket @s",
        "web.socket unix /run/web.sock",
    ];
    assert_eq!((shown(&unit), left.len(), remarks.len()), (expected.map(String::from).to_vec(), 0, 0));
    assert_eq!(unit.sockets[1].origin, Origin::File { name: "web.socket".into(), line: 3 });
    assert_eq!(unit.trigger_limit, Some((20, 2 * SECOND)));
}

#[test]
fn an_empty_line_clears_and_a_bad_one_is_said() {
    let text = "[Socket]\nListenStream=1\nListenDatagram=2\nListenFIFO=\nListenStream=localhost:80\nListenStream=3\n\
                ReusePort=yes\nListenStream=3\nSocketMode=0999\nSocketMode=0660\nSocketMode=0888\nAccept=perhaps\n\
                FileDescriptorName=a b\nFileDescriptorName=a:b\nlistenstream=9\nUser=x\nTriggerLimitBurst=0\n";
    let (unit, left, remarks) = unit("web.socket", text);
    assert_eq!(shown(&unit), ["a b tcp [::]:3", "a b tcp [::]:3"]);
    assert!(unit.sockets.iter().all(|one| one.options.reuse_port && one.options.mode == Some(0o660)));
    assert_eq!(left, ["listenstream"]);
    assert_eq!(unit.commands.user.as_deref(), Some("x"));
    assert_eq!(unit.trigger_limit, None);
    assert_eq!(remarks.len(), 5, "{remarks:?}");
    assert!(remarks[0].starts_with("web.socket:5: ListenStream: 'localhost:80' is no address"), "{remarks:?}");
}

#[test]
fn the_rarer_kinds() {
    let text = "[Socket]\nListenSpecial=/dev/rfkill\nWritable=yes\nListenNetlink=route 1361\nListenNetlink=audit\n\
                ListenMessageQueue=/%p\nMessageQueueMaxMessages=10\nMessageQueueMessageSize=4096\n\
                ListenNetlink=nothing 1\nListenMessageQueue=/a/b\nListenStream=1\nSocketProtocol=mptcp\n\
                PassPIDFD=yes\nAcceptFileDescriptors=no\nRemoveOnStop=yes\nSocketProtocol=tcp\nMessageQueueMaxMessages=0\n";
    let (unit, left, remarks) = unit("web.socket", text);
    let expected = [
        "web.socket special /dev/rfkill",
        "web.socket netlink netlink:0:1361",
        "web.socket netlink netlink:9:0",
        "web.socket mq mq:/web",
        "web.socket tcp [::]:1",
    ];
    assert_eq!((shown(&unit), left.len()), (expected.map(String::from).to_vec(), 0));
    assert_eq!(remarks.len(), 4, "{remarks:?}");
    let options = &unit.sockets[0].options;
    assert!(options.writable && options.pass_pidfd && options.refuse_descriptors && !options.keep_path);
    assert_eq!((options.queue_limits, options.protocol), (Some((10, 4096)), Some(262)));
}

#[test]
fn what_makes_a_unit_unusable() {
    for (text, why) in [
        ("", "no Listen setting"),
        ("ListenStream=x", "no Listen setting"),
        ("ListenStream=1\nAccept=yes\nService=a.service", "exclude each other"),
        ("ListenDatagram=1\nAccept=yes", "udp [::]:1 has no connections"),
        ("ListenFIFO=/f\nAccept=yes", "has no connections"),
        ("ListenStream=1\nSymlinks=/a", "there are 0"),
        ("ListenStream=/a\nListenFIFO=/b\nSymlinks=/c", "there are 2"),
    ] {
        let wrong = unit("web.socket", &format!("[Socket]\n{text}\n")).0.wrong();
        assert!(wrong.as_deref().is_some_and(|wrong| wrong.contains(why)), "{text}: {wrong:?}");
    }
    for text in ["ListenSequentialPacket=@a\nAccept=yes", "ListenStream=/a\nListenStream=1\nSymlinks=/c"] {
        assert_eq!(unit("web.socket", &format!("[Socket]\n{text}\n")).0.wrong(), None, "{text}");
    }
}

#[test]
fn options_are_each_in_their_place() {
    let text = "[Socket]\nListenStream=/run/x\nSocketUser=a\nSocketGroup=b\nDirectoryMode=0700\nBacklog=7\n\
                BindIPv6Only=both\nKeepAliveTimeSec=1min\nReceiveBuffer=8M\nIPTOS=throughput\nMark=5\n\
                Timestamping=us\nPassCredentials=1\nService=other.service\nAccept=yes\nMaxConnections=3\n\
                Symlinks=/run/y \"/run/z z\"\nReusePort=yes\n";
    let (unit, _, remarks) = unit("web.socket", text);
    assert_eq!(remarks, Vec::<String>::new());
    let expected = SocketOptions {
        user: Some("a".into()),
        group: Some("b".into()),
        directory_mode: Some(0o700),
        backlog: Some(7),
        v6only: Some(false),
        keepalive_idle_seconds: Some(60),
        receive_buffer_bytes: Some(8 << 20),
        tos: Some(8),
        mark: Some(5),
        timestamp: Some(Timestamp::Microseconds),
        pass_credentials: true,
        symlinks: vec!["/run/y".into(), "/run/z z".into()],
        lenient: true,
        keep_path: true,
        ..SocketOptions::default()
    };
    assert_eq!(unit.sockets[0].options, expected, "ReusePort is for inet sockets only");
    assert_eq!(unit.sockets[0].name, "connection");
    assert_eq!((unit.service.as_deref(), unit.accept, unit.max_connections), (Some("other.service"), true, 3));
    assert_eq!(unit.symlinks, ["/run/y", "/run/z z"]);
    assert_eq!(unit.trigger_limit, Some((200, 2 * SECOND)));
}
