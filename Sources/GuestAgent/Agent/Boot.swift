import CAgent

/// From the initramfs to a running guest.
///
/// Every step that fails is reported and the rest goes on, so that the host always finds an agent that can tell it what is wrong.
enum Boot {
    private static let rootWaitNanoseconds: Int64 = 3_000_000_000
    private static let moduleListBytesMax = 65_536

    /// Mounts, modules, the root disk, the loopback interface.
    static func run(_ agent: Agent) {
        mount("devtmpfs", "/dev", "devtmpfs", flags: MS_NOSUID, options: "mode=0755", agent)
        reserveStandardDescriptors()
        agent.console.open()
        mount("proc", "/proc", "proc", flags: MS_NOSUID | MS_NODEV | MS_NOEXEC, agent)
        let commandLine = KernelCommandLine(Files.read("/proc/cmdline", bytesMax: 65_536) ?? [])
        loadModules(commandLine, agent)
        if let device = commandLine.value(of: "aurora.root") { switchRoot(to: device, commandLine, agent) }
        mountSystem(agent)
        let result = SystemServices.raiseLoopback()
        if result < 0 { agent.report("cannot bring up the loopback interface", result) }
        _ = sys_sethostname("aurora", 6)
    }

    /// Descriptors 0 to 2 must be taken before anything else is opened, or a child's streams would land on the agent's own.
    private static func reserveStandardDescriptors() {
        for number in Int32(0)...2 {
            let opened = sys_open("/dev/null", O_RDWR, 0)
            guard opened >= 0 else { return }
            if opened <= 2 { continue }
            _ = sys_dup2(Int32(truncatingIfNeeded: opened), number)
            _ = sys_close(Int32(truncatingIfNeeded: opened))
        }
    }

    private static func loadModules(_ commandLine: KernelCommandLine, _ agent: Agent) {
        guard let list = Files.read("/modules/list", bytesMax: moduleListBytesMax) else { return }
        var lines = TextScanner(list)
        while var line = lines.nextLine() {
            let file = line.word()
            guard !file.isEmpty else { continue }
            let path = "/modules/" + file
            let name = file.hasSuffix(".ko") ? file.dropLast(3) : file
            let result = load(path, commandLine.moduleParameters(name))
            if result < 0 && result != -Int(EEXIST) { agent.report("cannot load module " + file, result) }
            // The initramfs lives in memory: what is loaded is not needed again.
            _ = withCString(path) { sys_unlink($0) }
        }
        // The file goes with the initramfs, so the agent keeps it open until somebody asks for what it offers.
        let opened = sys_open("/modules/unix_diag.ko", O_RDONLY, 0)
        if opened >= 0 {
            agent.socketDiagnostics = Int32(truncatingIfNeeded: opened)
            _ = sys_unlink("/modules/unix_diag.ko")
        }
    }

    /// Loads the module behind UNIX socket diagnostics, once.
    static func loadSocketDiagnostics(_ agent: Agent) {
        guard agent.socketDiagnostics >= 0 else { return }
        let result = sys_finit_module(agent.socketDiagnostics, "")
        if result < 0 && result != -Int(EEXIST) { agent.console.say("cannot load module unix_diag: error " + Text.decimal(-result)) }
        _ = sys_close(agent.socketDiagnostics)
        agent.socketDiagnostics = -1
    }

    private static func load(_ path: Text, _ parameters: Text) -> Int {
        let opened = withCString(path) { sys_open($0, O_RDONLY, 0) }
        guard let module = Descriptor(result: opened) else { return opened }
        return withCString(parameters) { sys_finit_module(module.number, $0) }
    }

    private static func switchRoot(to device: Text, _ commandLine: KernelCommandLine, _ agent: Agent) {
        let type = commandLine.value(of: "aurora.rootfstype") ?? "ext4"
        let readOnly = commandLine.value(of: "aurora.rootflags") == "ro"
        _ = sys_mkdir("/newroot", 0o755)
        let deadline = sys_clock(CLOCK_MONOTONIC) + rootWaitNanoseconds
        var result = mountDisk(device, type, readOnly)
        while (result == -Int(ENOENT) || result == -Int(ENXIO)) && sys_clock(CLOCK_MONOTONIC) < deadline {
            sys_sleep(1_000_000)
            result = mountDisk(device, type, readOnly)
        }
        guard result >= 0 else { return agent.report("cannot mount root disk " + device + " as " + type, result) }
        _ = sys_mkdir("/newroot/dev", 0o755)
        _ = sys_mkdir("/newroot/proc", 0o755)
        _ = sys_unlink("/init")
        _ = sys_mount("/dev", "/newroot/dev", nil, UInt(MS_MOVE), nil)
        _ = sys_mount("/proc", "/newroot/proc", nil, UInt(MS_MOVE), nil)
        result = sys_chdir("/newroot")
        if result >= 0 { result = sys_mount(".", "/", nil, UInt(MS_MOVE), nil) }
        if result >= 0 { result = sys_chroot(".") }
        if result >= 0 { result = sys_chdir("/") }
        if result < 0 { agent.report("cannot switch to the root disk", result) }
    }

    private static func mountDisk(_ device: Text, _ type: Text, _ readOnly: Bool) -> Int {
        withCString(device) { device in
            withCString(type) { type in sys_mount(device, "/newroot", type, UInt(readOnly ? MS_RDONLY : 0), nil) }
        }
    }

    private static func mountSystem(_ agent: Agent) {
        let safe = MS_NOSUID | MS_NODEV | MS_NOEXEC
        mount("sysfs", "/sys", "sysfs", flags: safe, agent)
        mount("devpts", "/dev/pts", "devpts", flags: MS_NOSUID | MS_NOEXEC, options: "mode=0620,gid=5,ptmxmode=0666", agent)
        mount("tmpfs", "/dev/shm", "tmpfs", flags: MS_NOSUID | MS_NODEV, options: "mode=1777", agent)
        mount("mqueue", "/dev/mqueue", "mqueue", flags: safe, agent)
        mount("tmpfs", "/run", "tmpfs", flags: MS_NOSUID | MS_NODEV, options: "mode=0755", agent)
        mount("tmpfs", "/tmp", "tmpfs", flags: MS_NOSUID | MS_NODEV, options: "mode=1777", agent)
        mount("cgroup2", "/sys/fs/cgroup", "cgroup2", flags: safe, agent)
        _ = sys_mkdir("/run/lock", 0o1777)
        _ = sys_symlink("/proc/self/fd", "/dev/fd")
        _ = sys_symlink("/proc/self/fd/0", "/dev/stdin")
        _ = sys_symlink("/proc/self/fd/1", "/dev/stdout")
        _ = sys_symlink("/proc/self/fd/2", "/dev/stderr")
    }

    private static func mount(_ source: Text, _ path: Text, _ type: Text, flags: Int32, options: Text = "", _ agent: Agent) {
        _ = withCString(path) { sys_mkdir($0, 0o755) }
        let result = withCString(path) { path in
            withCString(source) { source in
                withCString(type) { type in withCString(options) { sys_mount(source, path, type, UInt(flags), $0) } }
            }
        }
        // EBUSY: the kernel or an earlier step mounted it already.
        guard result < 0, result != -Int(EBUSY) else { return }
        agent.report("cannot mount " + type + " on " + path, result)
    }
}
