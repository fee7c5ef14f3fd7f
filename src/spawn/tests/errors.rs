//! What is said where there is no worker.

use super::*;

#[test]
fn what_is_no_terminal() {
    let file = File::open("/dev/null").unwrap();
    let world = World::shell("true");
    let error = world.launch(&Copy { terminal: Some(file.as_fd()), ..world.copy() }).unwrap_err();
    assert_eq!(error.stage, Stage::Terminal);
    assert_eq!(error.to_string(), "worker of 'web': cannot give it the terminal: not a terminal");
}

/// What could not be started is told in the same call, in these words, and leaves no child.
#[test]
fn errors() {
    let scratch = Scratch::new();
    let s = scratch.0.display().to_string();
    scratch.file("gunicorn", "#!/bin/sh\n", 0o755);
    scratch.file("plain", "text", 0o644);
    scratch.file("script", "#!/usr/bin/pyhton -u\n", 0o755);
    std::fs::create_dir(scratch.0.join("directory")).unwrap();
    std::fs::create_dir(scratch.0.join("private")).unwrap();
    scratch.file("private/tool", "#!/bin/sh\n", 0o755);
    std::fs::set_permissions(scratch.0.join("private"), PermissionsExt::from_mode(0o700)).unwrap();
    let table: Vec<(Stage, World, String)> = vec![
        (Stage::Command, World::new(&["gunicron"]), "cannot run 'gunicron': no such file (did you mean gunicorn?)".into()),
        (Stage::Command, World::new(&["zzzzzz"]), "cannot run 'zzzzzz': no such file".into()),
        (Stage::Command, World::new(&[""]), "cannot run '': no such file".into()),
        (
            Stage::Command,
            World::new(&["plain"]),
            format!("cannot run 'plain': permission denied ({s}/plain is not executable; chmod +x)"),
        ),
        (Stage::Exec, World::new(&["./plain"]), "cannot run './plain': permission denied (not executable; chmod +x)".into()),
        (Stage::Exec, World::new(&["./gunicron"]), "cannot run './gunicron': no such file (did you mean ./gunicorn?)".into()),
        (Stage::Exec, World::new(&["./directory"]), "cannot run './directory': it is a directory".into()),
        (Stage::Exec, World::new(&["script"]), "cannot run 'script': its interpreter '/usr/bin/pyhton' is missing".into()),
        (
            Stage::Exec,
            World::new(&["./private/tool"]).with(|service| service.user = Some("nobody".into())),
            "cannot run './private/tool': permission denied (as user 'nobody')".into(),
        ),
        (
            Stage::Directory,
            World::new(&["/bin/true"]).with(|service| service.chdir = Some("/nope".into())),
            "worker of 'web': cannot change directory to '/nope': no such file".into(),
        ),
        (
            Stage::Limit,
            World::new(&["/bin/true"]).with(|service| {
                service.limits = vec![Limit { resource: Resource::Core, soft: None, hard: Some(5) }];
            }),
            "worker of 'web': cannot set limit core=infinity:5: invalid argument (the soft limit is above the hard one)".into(),
        ),
        (
            Stage::User,
            World::new(&["/bin/true"]).with(|service| service.user = Some("nobodyy".into())),
            "worker of 'web': no such user 'nobodyy'".into(),
        ),
        (
            Stage::EnvironmentFile,
            World::new(&["/bin/true"]).with(|service| service.env_files = vec!["no.env".into()]),
            "worker of 'web': cannot read environment file 'no.env': no such file".into(),
        ),
        (
            Stage::Environment,
            World::new(&["/bin/true", "a\0b"]),
            "worker of 'web': 'a\\0b' has a NUL byte in it".into(),
        ),
        (
            Stage::Environment,
            World::new(&["/bin/true"]).with(|service| {
                service.env = vec![("K".into(), Template(vec![Piece::Port(SocketRef::At(SocketId(3)))]))];
            }),
            "worker of 'web': cannot make its environment: 'K' names a socket that it does not get".into(),
        ),
    ];
    for (stage, mut world, message) in table {
        if stage == Stage::Exec && world.service.user.is_some() && !root() {
            continue;
        }
        world.base.environment = vec![("PATH".into(), s.clone().into())];
        world.base.start_dir.clone_from(&scratch.0);
        let error = world.error();
        assert_eq!((error.to_string(), error.stage), (message, stage));
    }
}

/// Failures that no plan asks for: made in the steps themselves.
#[test]
fn errors_of_the_child() {
    type Break = fn(&mut clone::Steps);
    let table: [(Stage, i32, Break); 5] = [
        (Stage::Descriptors, libc::EBADF, |steps| steps.moves = vec![(1_000_000, 3)]),
        (Stage::Terminal, libc::EBADF, |steps| steps.terminal = Some(1_000_000)),
        (Stage::ParentDeath, libc::ESRCH, |steps| steps.parent_death = Some((libc::SIGUSR2, 1_000_000))),
        (Stage::Groups, libc::EINVAL, |steps| {
            steps.change = Some(clone::Change { uid: None, gid: None, groups: vec![0; 70_000] });
        }),
        (Stage::Exec, libc::ENOENT, |steps| steps.files = vec![c"/nowhere/at/all".into()]),
    ];
    for (stage, errno, break_it) in table {
        if stage == Stage::Groups && !root() {
            continue;
        }
        let world = World::new(&["/bin/true"]);
        let mut recipe = recipe::Recipe::new(&world.base, &world.service, &[], &world.copy()).unwrap();
        break_it(&mut recipe.steps);
        let _guard = launching();
        let failure = clone::run(&mut recipe.steps).unwrap_err();
        assert_eq!((failure.stage, failure.errno as i32), (stage, errno));
        let error = recipe.explain(&world.service, failure);
        assert!(error.to_string().contains(stage.text()), "{error}");
    }
}
