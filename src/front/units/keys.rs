//! Every key of systemd 257 that a unit may have and that is not read by `socket` or `service`: what becomes of it. The
//! manual's table is printed from here.

use crate::plan::nearest;

/// What becomes of a key that is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// It describes, or orders units among each other: nothing is lost.
    Harmless,
    /// It is done by systemd's own services, by cgroups or by a message bus: said, and left out.
    NeedsSystemd,
    /// It takes rights away from the service: leaving it out would be worse than not starting.
    Protection,
    /// How the process is started: belongs to the spawn.
    Process,
}

/// A section's keys of one class, with blanks between them.
type Row = (&'static str, Class, &'static str);

/// `[Exec]` stands for what `[Service]` and `[Socket]` have in common, `[Kill]` and `[Resource]` too.
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
    (
        "Unit",
        Class::Process,
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
        Class::Process,
        "ListenSpecial ListenNetlink ListenMessageQueue SocketProtocol Writable MessageQueueMaxMessages \
         MessageQueueMessageSize PassPIDFD AcceptFileDescriptors PollLimitIntervalSec PollLimitBurst ExecStartPre \
         ExecStartPost ExecStopPre ExecStopPost TimeoutSec PassFileDescriptorsToExec",
    ),
    (
        "Service",
        Class::NeedsSystemd,
        "BusName ExitType USBFunctionDescriptors USBFunctionStrings OOMPolicy RebootArgument PermissionsStartOnly \
         RootDirectoryStartOnly RefreshOnReload",
    ),
    (
        "Service",
        Class::Process,
        "PIDFile GuessMainPID NotifyAccess FileDescriptorStorePreserve OpenFile ReloadSignal RuntimeMaxSec \
         RuntimeRandomizedExtraSec RestartMode RestartKillSignal TimeoutStartFailureMode TimeoutStopFailureMode",
    ),
    (
        "Kill",
        Class::Process,
        "KillMode KillSignal RestartKillSignal SendSIGHUP SendSIGKILL FinalKillSignal WatchdogSignal",
    ),
    (
        "Exec",
        Class::Process,
        "WorkingDirectory User Group SupplementaryGroups UMask Nice OOMScoreAdjust CPUSchedulingPolicy \
         CPUSchedulingPriority CPUSchedulingResetOnFork CPUAffinity NUMAPolicy NUMAMask IOSchedulingClass \
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
        "PAMName TTYPath TTYReset TTYVHangup TTYVTDisallocate TTYRows TTYColumns UtmpIdentifier UtmpMode \
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
         PrivateIPC IPCNamespacePath PrivatePIDs PrivateUsers PrivateMounts MountFlags MemoryKSM RestrictAddressFamilies \
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

/// What becomes of a key; `None`: systemd has no such key there.
pub fn class(section: &str, key: &str) -> Option<Class> {
    let rows = TABLE.iter().filter(|(table, _, _)| tables(section).contains(table));
    rows.into_iter().find(|(_, _, keys)| keys.split(' ').any(|one| one == key)).map(|(_, class, _)| *class)
}

/// The key that was meant, if one is near; `read`: those that are not in this table.
pub fn meant<'a>(section: &str, key: &str, read: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let rows = TABLE.iter().filter(|(table, _, _)| tables(section).contains(table));
    nearest(key, rows.flat_map(|(_, _, keys)| keys.split(' ')).chain(read))
}

/// Whether a section is one of systemd's, or nobody's business.
pub fn is_known(section: &str) -> bool {
    !tables(section).is_empty() || section.starts_with("X-")
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
        assert_eq!(class("Socket", "User"), Some(Class::Process));
        assert_eq!(class("Service", "MemoryMax"), Some(Class::NeedsSystemd));
        assert_eq!(class("Unit", "After"), Some(Class::Harmless));
        assert_eq!(class("Unit", "User"), None);
        assert_eq!(class("Service", "user"), None, "case matters");
        assert_eq!(meant("Service", "PrivatTmp", std::iter::empty()), Some("PrivateTmp"));
        assert_eq!(meant("Socket", "listenstream", ["ListenStream"].into_iter()), Some("ListenStream"));
        assert!(is_known("X-Ours") && is_known("Unit") && !is_known("Servce"));
    }
}
