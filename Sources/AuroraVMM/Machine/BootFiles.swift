internal import CLinux
internal import GuestBlobs
import Linux

/// What a guest boots with besides its kernel: the initramfs and the command line.
enum BootFiles {
    private static let moduleBytesMax = 64 << 20
    private static let modulesMax = 256
    private static let onDemandModules = ["unix_diag.ko"]

    /// The agent as /init, and the modules with their load order.
    ///
    /// - Parameter program: a program that takes the agent's place; nil: the agent.
    /// - Throws: `MachineError.configuration` for a module that cannot be read.
    static func initramfs(
        modulesDirectory: String?, without unused: Set<String>, program: [UInt8]? = nil
    ) throws(MachineError) -> [UInt8] {
        let agent = UnsafeRawBufferPointer(start: aurora_agent_bytes(), count: Int(aurora_agent_count()))
        var archive = Initramfs(capacity: 8 << 20)
        for directory in ["dev", "proc", "sys", "modules"] { archive.addDirectory(directory) }
        archive.addDevice("dev/console", major: 5, minor: 1)
        if let program { archive.addFile("init", program, executable: true) } else { archive.addFile("init", agent, executable: true) }
        if let modulesDirectory {
            let list = try read("\(modulesDirectory)/list")
            let names = String(decoding: list, as: UTF8.self).split(whereSeparator: \.isNewline).filter { !unused.contains(String($0)) }
            guard names.count <= modulesMax else { throw .configuration("\(modulesDirectory)/list names \(names.count) modules") }
            archive.addFile("modules/list", names.map { $0 + "\n" }.joined().utf8)
            for name in names where !name.contains("/") {
                archive.addFile("modules/\(name)", withoutSignature(try read("\(modulesDirectory)/\(name)")))
            }
            // Not loaded at boot: the agent loads it when it is first asked which UNIX sockets belong together.
            for name in onDemandModules where !names.contains(where: { $0 == name }) {
                if let module = try? read("\(modulesDirectory)/\(name)") { archive.addFile("modules/\(name)", withoutSignature(module)) }
            }
        }
        return archive.finished()
    }

    /// A module without its appended signature (struct module_signature of Linux, then a magic line): checking one takes
    /// the guest milliseconds, and whoever could change the module could change the kernel.
    static func withoutSignature(_ module: [UInt8]) -> ArraySlice<UInt8> {
        let magic = Array("~Module signature appended~\n".utf8)
        let trailer = magic.count + 12
        guard module.count > trailer, module.suffix(magic.count).elementsEqual(magic) else { return module[...] }
        let length = module[(module.count - magic.count - 4)..<(module.count - magic.count)].reduce(0) { $0 << 8 | Int($1) }
        return length <= module.count - trailer ? module[..<(module.count - trailer - length)] : module[...]
    }

    private static func read(_ path: String) throws(MachineError) -> [UInt8] {
        do throws(SystemError) {
            let file = try OwnedDescriptor.open(path, O_RDONLY)
            let number = file.rawValue
            let size = try systemCall("tell the size of", path) { Int(lseek(number, 0, SEEK_END)) }
            guard size <= moduleBytesMax else { throw SystemError("use", "\(path) of \(size) bytes", errno: .invalidArgument) }
            var bytes = [UInt8](repeating: 0, count: size)
            let count = try systemCall("read", path) { bytes.withUnsafeMutableBytes { clinux_pread(number, $0.baseAddress, $0.count, 0) } }
            guard count == size else { throw SystemError("read all of", path, errno: .inputOutput) }
            return bytes
        } catch {
            throw .configuration("\(error). Run: aurora image prepare")
        }
    }

    /// Initialization a guest does without: kernel tracing, without which a guest of 64 MiB has room to boot, and PC hardware
    /// that is not there.
    private static let unusedInitcalls = [
        "tracer_init_tracefs", "init_kprobe_trace", "init_uprobe_trace", "init_dynamic_event", "init_trace_printk_function_export",
        "i8042_init", "hpet_init",
    ]

    /// Aurora's words, the guest mode's, then the configuration's own, which may repeat and so override.
    static func commandLine(_ configuration: MachineConfiguration, platform: [String]) -> String {
        var words = [
            "console=hvc0", "quiet", "noreplace-smp", "panic=-1", "mitigations=off", "random.trust_cpu=on", "audit=0",
            "nokaslr",
            "noresume",
            "cryptomgr.notests", "rcupdate.rcu_expedited=1", "no_timer_check", "8250.nr_uarts=0", "random.trust_bootloader=on",
            "initcall_blacklist=" + unusedInitcalls.joined(separator: ","),
        ]
        if !configuration.blockDevices.isEmpty { words += ["aurora.root=/dev/vda", "aurora.rootfstype=ext4"] }
        return (words + platform + configuration.commandLine).joined(separator: " ")
    }
}
