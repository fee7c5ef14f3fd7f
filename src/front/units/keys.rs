//! Every key of systemd 257 that a unit may have, and what becomes of it. The readers are asked for the honoured ones, the
//! others are judged by `judge`; the manual's table is printed from here.

use crate::plan::nearest;

/// What becomes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// As systemd does; a value that is not is said with its reason.
    Honoured,
    /// It describes, or orders units among each other: nothing is lost.
    Harmless,
    /// It is done by systemd's own services, by cgroups or by a message bus: said, and left out.
    NeedsSystemd,
    /// It takes rights away from the service: leaving it out would be worse than not starting.
    Protection,
}

/// A section's keys of one class, with blanks between them.
type Row = (&'static str, Class, &'static str);

/// `Exec` stands for what `[Service]` and `[Socket]` have in common, `Kill` and `Resource` too.
const TABLE: &[Row] = &[
    (
        "Unit",
        Class::Harmless,
        "Description Documentation SourcePath Wants Requires Requisite BindsTo PartOf Upholds Conflicts Before After \
         OnFailureJobMode OnSuccessJobMode PropagatesReloadTo ReloadPropagatedFrom PropagatesStopTo StopPropagatedFrom \
         JoinsNamespaceOf RequiresMountsFor WantsMountsFor IgnoreOnIsolate StopWhenUnneeded RefuseManualStart \
         RefuseManualStop AllowIsolate DefaultDependencies SurviveFinalKillSignal CollectMode JobTimeoutSec \
         JobRunningTimeoutSec",
    ),
    (
        "Unit",
        Class::NeedsSystemd,
        "OnFailure OnSuccess FailureAction SuccessAction FailureActionExitStatus SuccessActionExitStatus \
         JobTimeoutAction JobTimeoutRebootArgument StartLimitAction RebootArgument",
    ),
    ("Unit", Class::Honoured, "StartLimitIntervalSec StartLimitBurst StartLimitInterval"),
    (
        "Unit",
        Class::Honoured,
        "ConditionArchitecture ConditionFirmware ConditionVirtualization ConditionHost ConditionKernelCommandLine \
         ConditionKernelVersion ConditionCredential ConditionEnvironment ConditionSecurity ConditionCapability \
         ConditionACPower ConditionNeedsUpdate ConditionFirstBoot ConditionPathExists ConditionPathExistsGlob \
         ConditionPathIsDirectory ConditionPathIsSymbolicLink ConditionPathIsMountPoint ConditionPathIsReadWrite \
         ConditionPathIsEncrypted ConditionDirectoryNotEmpty ConditionFileNotEmpty ConditionFileIsExecutable \
         ConditionUser ConditionGroup ConditionControlGroupController ConditionMemory ConditionCPUs ConditionCPUFeature \
         ConditionOSRelease ConditionMemoryPressure ConditionCPUPressure ConditionIOPressure AssertArchitecture \
         AssertFirmware AssertVirtualization AssertHost AssertKernelCommandLine AssertKernelVersion AssertCredential \
         AssertEnvironment AssertSecurity AssertCapability AssertACPower AssertNeedsUpdate AssertFirstBoot \
         AssertPathExists AssertPathExistsGlob AssertPathIsDirectory AssertPathIsSymbolicLink AssertPathIsMountPoint \
         AssertPathIsReadWrite AssertPathIsEncrypted AssertDirectoryNotEmpty AssertFileNotEmpty AssertFileIsExecutable \
         AssertUser AssertGroup AssertControlGroupController AssertMemory AssertCPUs AssertCPUFeature AssertOSRelease \
         AssertMemoryPressure AssertCPUPressure AssertIOPressure",
    ),
    ("Install", Class::Harmless, "Alias WantedBy RequiredBy UpheldBy Also DefaultInstance"),
    (
        "Socket",
        Class::NeedsSystemd,
        "ListenUSBFunction SmackLabel SmackLabelIPIn SmackLabelIPOut SELinuxContextFromNet DeferTrigger \
         DeferTriggerMaxSec",
    ),
    (
        "Socket",
        Class::Honoured,
        "ListenStream ListenDatagram ListenSequentialPacket ListenFIFO ListenSpecial ListenNetlink ListenMessageQueue \
         SocketProtocol BindIPv6Only Backlog BindToDevice SocketUser SocketGroup SocketMode DirectoryMode Accept \
         Writable FlushPending MaxConnections MaxConnectionsPerSource KeepAlive KeepAliveTimeSec KeepAliveIntervalSec \
         KeepAliveProbes DeferAcceptSec NoDelay Priority ReceiveBuffer SendBuffer IPTOS IPTTL Mark ReusePort FreeBind \
         Transparent Broadcast PassCredentials PassSecurity PassPIDFD AcceptFileDescriptors PassPacketInfo Timestamping \
         TCPCongestion PipeSize MessageQueueMaxMessages MessageQueueMessageSize RemoveOnStop Symlinks \
         FileDescriptorName Service TriggerLimitIntervalSec TriggerLimitBurst ExecStartPre ExecStartPost ExecStopPre \
         ExecStopPost TimeoutSec",
    ),
    // Traffic is polled by level, within the trigger limit.
    ("Socket", Class::Harmless, "PollLimitIntervalSec PollLimitBurst"),
    ("Socket", Class::NeedsSystemd, "PassFileDescriptorsToExec"),
    (
        "Service",
        Class::NeedsSystemd,
        "BusName USBFunctionDescriptors USBFunctionStrings OOMPolicy RebootArgument PermissionsStartOnly \
         RootDirectoryStartOnly RefreshOnReload RuntimeRandomizedExtraSec",
    ),
    (
        "Service",
        Class::Honoured,
        "Type ExitType ExecCondition ExecStartPre ExecStart ExecStartPost ExecReload ExecStop ExecStopPost Restart \
         RestartMode RestartSec RestartSteps RestartMaxDelaySec TimeoutStartSec TimeoutStopSec TimeoutAbortSec TimeoutSec \
         TimeoutStartFailureMode TimeoutStopFailureMode RuntimeMaxSec WatchdogSec RemainAfterExit SuccessExitStatus \
         RestartPreventExitStatus RestartForceExitStatus Sockets NonBlocking PIDFile GuessMainPID NotifyAccess \
         FileDescriptorStoreMax FileDescriptorStorePreserve OpenFile ReloadSignal StartLimitIntervalSec StartLimitBurst \
         StartLimitInterval X-Prebind-Number X-Prebind-Slots X-Prebind-Strategy",
    ),
    (
        "Kill",
        Class::Honoured,
        "KillMode KillSignal RestartKillSignal SendSIGHUP SendSIGKILL FinalKillSignal WatchdogSignal",
    ),
    (
        "Exec",
        Class::Honoured,
        "WorkingDirectory User Group SupplementaryGroups UMask Nice OOMScoreAdjust CPUSchedulingPolicy \
         CPUSchedulingPriority CPUSchedulingResetOnFork CPUAffinity IOSchedulingClass \
         IOSchedulingPriority TimerSlackNSec Personality IgnoreSIGPIPE CoredumpFilter LimitCPU LimitFSIZE LimitDATA \
         LimitSTACK LimitCORE LimitRSS LimitNOFILE LimitAS LimitNPROC LimitMEMLOCK LimitLOCKS LimitSIGPENDING \
         LimitMSGQUEUE LimitNICE LimitRTPRIO LimitRTTIME Environment EnvironmentFile PassEnvironment UnsetEnvironment \
         StandardInput StandardOutput StandardError StandardInputText StandardInputData NoNewPrivileges \
         CapabilityBoundingSet AmbientCapabilities SecureBits RuntimeDirectory StateDirectory CacheDirectory \
         LogsDirectory ConfigurationDirectory RuntimeDirectoryMode StateDirectoryMode CacheDirectoryMode \
         LogsDirectoryMode ConfigurationDirectoryMode RuntimeDirectoryPreserve SetLoginEnvironment",
    ),
    (
        "Exec",
        Class::NeedsSystemd,
        "NUMAPolicy NUMAMask MemoryKSM PAMName TTYPath TTYReset TTYVHangup TTYVTDisallocate TTYRows TTYColumns UtmpIdentifier UtmpMode \
         SyslogIdentifier SyslogFacility SyslogLevel SyslogLevelPrefix LogLevelMax LogExtraFields LogFilterPatterns \
         LogNamespace LogRateLimitIntervalSec LogRateLimitBurst KeyringMode LoadCredential LoadCredentialEncrypted \
         SetCredential SetCredentialEncrypted ImportCredential RootImage RootImageOptions RootHash RootHashSignature \
         RootVerity RootImagePolicy MountImages MountImagePolicy ExtensionImages ExtensionImagePolicy \
         ExtensionDirectories RuntimeDirectorySymlink TimeoutCleanSec",
    ),
    (
        "Exec",
        Class::Protection,
        "DynamicUser RootDirectory RootEphemeral MountAPIVFS BindLogSockets ProtectProc ProcSubset BindPaths \
         BindReadOnlyPaths ProtectSystem ProtectHome ProtectClock ProtectHostname ProtectKernelTunables \
         ProtectKernelModules ProtectKernelLogs ProtectControlGroups ReadWritePaths ReadOnlyPaths InaccessiblePaths \
         ExecPaths NoExecPaths TemporaryFileSystem PrivateTmp PrivateDevices PrivateNetwork NetworkNamespacePath \
         PrivateIPC IPCNamespacePath PrivatePIDs PrivateUsers PrivateMounts MountFlags RestrictAddressFamilies \
         RestrictFileSystems RestrictNamespaces RestrictRealtime RestrictSUIDSGID LockPersonality \
         MemoryDenyWriteExecute RemoveIPC SystemCallFilter SystemCallErrorNumber SystemCallArchitectures SystemCallLog \
         SELinuxContext AppArmorProfile SmackProcessLabel",
    ),
    (
        "Resource",
        Class::NeedsSystemd,
        "Slice Delegate DelegateSubgroup DisableControllers CPUAccounting CPUWeight StartupCPUWeight CPUQuota \
         CPUQuotaPeriodSec AllowedCPUs StartupAllowedCPUs AllowedMemoryNodes StartupAllowedMemoryNodes CPUShares \
         StartupCPUShares MemoryAccounting MemoryMin MemoryLow StartupMemoryLow DefaultMemoryMin DefaultMemoryLow \
         MemoryHigh StartupMemoryHigh MemoryMax StartupMemoryMax MemorySwapMax StartupMemorySwapMax MemoryZSwapMax \
         StartupMemoryZSwapMax MemoryZSwapWriteback MemoryLimit MemoryPressureWatch MemoryPressureThresholdSec \
         TasksAccounting TasksMax IOAccounting IOWeight StartupIOWeight IODeviceWeight IOReadBandwidthMax \
         IOWriteBandwidthMax IOReadIOPSMax IOWriteIOPSMax IODeviceLatencyTargetSec BlockIOAccounting BlockIOWeight \
         IPAccounting ManagedOOMSwap ManagedOOMMemoryPressure ManagedOOMMemoryPressureLimit \
         ManagedOOMMemoryPressureDurationSec ManagedOOMPreference CoredumpReceive NFTSet",
    ),
    (
        "Resource",
        Class::Protection,
        "IPAddressAllow IPAddressDeny SocketBindAllow SocketBindDeny RestrictNetworkInterfaces DeviceAllow \
         DevicePolicy IPIngressFilterPath IPEgressFilterPath BPFProgram",
    ),
];

/// The tables that a section's keys are looked for in.
fn tables(section: &str) -> &'static [&'static str] {
    match section {
        "Unit" => &["Unit"],
        "Install" => &["Install"],
        "Socket" => &["Socket", "Exec", "Kill", "Resource"],
        "Service" => &["Service", "Exec", "Kill", "Resource"],
        _ => &[],
    }
}

/// In `[Socket]` these are about the sockets themselves; the others of `Exec` and `Kill` about its commands only.
const OF_SOCKETS: [&str; 2] = ["PrivateNetwork", "NetworkNamespacePath"];

/// What becomes of a key; `None`: systemd has no such key there.
pub fn class(section: &str, key: &str) -> Option<Class> {
    let mut rows = TABLE.iter().filter(|(table, _, _)| tables(section).contains(table));
    rows.find(|(_, _, keys)| keys.split(' ').any(|one| one == key)).map(|(_, class, _)| *class)
}

/// Whether a key is about the commands of a .socket, not about its sockets.
pub fn of_socket_commands(key: &str) -> bool {
    let has = |keys: &str| keys.split(' ').any(|one| one == key);
    let table = TABLE.iter().find(|(_, _, keys)| has(keys)).map(|(table, _, _)| *table);
    matches!(table, Some("Exec" | "Kill")) && !OF_SOCKETS.contains(&key)
}

/// What was meant by an unknown key, if something is near: a key, or the section that it belongs to.
pub fn meant(section: &str, key: &str) -> Option<String> {
    let elsewhere = ["Unit", "Service", "Socket", "Install"].into_iter().find(|other| class(other, key).is_some());
    if let Some(other) = elsewhere {
        return Some(format!("it belongs to [{other}]"));
    }
    let rows = TABLE.iter().filter(|(table, _, _)| tables(section).contains(table));
    let keys: Vec<&str> = rows.flat_map(|(_, _, keys)| keys.split(' ')).collect();
    let same = keys.iter().find(|known| known.eq_ignore_ascii_case(key)).copied();
    same.or_else(|| nearest(key, keys)).map(|near| format!("did you mean {near}?"))
}

/// Every row of the table, for the manual: the section where its keys stand, what becomes of them, the keys.
pub fn rows() -> impl Iterator<Item = (&'static str, Class, &'static str)> {
    TABLE.iter().map(|(table, class, keys)| {
        let section = if matches!(*table, "Exec" | "Kill" | "Resource") { "Service" } else { *table };
        (section, *class, *keys)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn every_key_stands_once_in_its_table() {
        let mut seen = BTreeMap::new();
        for (table, class, keys) in TABLE {
            for key in keys.split(' ') {
                assert!(key.starts_with(|c: char| c.is_ascii_uppercase()), "{key:?}");
                assert_eq!(seen.insert((table, key), class), None, "{key} stands twice in {table}");
            }
        }
        assert!(seen.len() > 350, "{}", seen.len());
    }

    #[test]
    fn keys_are_found_by_section() {
        assert_eq!(class("Service", "ProtectSystem"), Some(Class::Protection));
        assert!(of_socket_commands("User") && !of_socket_commands("PrivateNetwork") && !of_socket_commands("Backlog"));
        assert_eq!(class("Socket", "PrivateNetwork"), Some(Class::Protection));
        assert_eq!(class("Service", "User"), Some(Class::Honoured));
        assert_eq!(class("Service", "MemoryMax"), Some(Class::NeedsSystemd));
        assert_eq!(class("Unit", "After"), Some(Class::Harmless));
        assert_eq!(class("Unit", "User"), None);
        assert_eq!(class("Service", "user"), None, "case matters");
        let meant = |section, key| meant(section, key).unwrap_or_default();
        assert_eq!(meant("Service", "execstart"), "did you mean ExecStart?");
        assert_eq!(meant("Service", "PrivatTmp"), "did you mean PrivateTmp?");
        assert_eq!(meant("Socket", "listenstream"), "did you mean ListenStream?");
        assert_eq!(meant("Service", "ListenStream"), "it belongs to [Socket]");
    }
}
