import CAgent

/// Gathers the object report from /proc.
///
/// What disappears meanwhile is left out.
struct ObjectCollector {
    private static let processesMax = 16_384
    private static let threadsMax = 4_096
    private static let descriptorsMax = 65_536
    private static let socketsMax = 32_768
    private static let mappingsMax = 65_536
    private static let mappingsOfProcessMax = 2_048
    private static let namedMax = 4_096
    private static let smallFileBytesMax = 16_384
    private static let tableBytesMax = 8_388_608
    private static let linkBytesMax = 4_096
    private static let argumentsBytesMax = 65_536

    private let sections: UInt32
    private var report = ObjectReport()
    private var messageQueueDevice: UInt64?

    /// Gathers the sections of a request.
    static func collect(_ request: ObjectsRequest) -> ObjectReport {
        var collector = ObjectCollector(request.sections)
        collector.collectProcesses()
        if request.sections & ObjectsRequest.descriptors != 0 { collector.collectSockets() }
        if request.sections & ObjectsRequest.interprocess != 0 { collector.collectInterprocess() }
        return collector.report
    }

    private init(_ sections: UInt32) {
        self.sections = sections
        var facts = sys_file_facts()
        if sys_fstatat(-1, "/dev/mqueue", &facts) >= 0 { messageQueueDevice = facts.device }
    }

    // MARK: Processes

    private mutating func collectProcesses() {
        guard let folder = Directories.open("/proc") else { return }
        for number in Directories.numbers(folder, limit: ObjectCollector.processesMax * 2) {
            guard report.processes.count < ObjectCollector.processesMax else {
                report.isTruncated = true
                return
            }
            collectProcess(number)
        }
    }

    private mutating func collectProcess(_ number: Int32) {
        guard let folder = Directories.open("/proc/" + Text.decimal(Int(number))) else { return }
        let stat = ObjectCollector.read(folder, "stat", ObjectCollector.smallFileBytesMax)
        guard !ProcessParser.isKernelThread(stat: stat), var process = ProcessParser.parseStat(stat) else { return }
        if let identity = ProcessParser.parseIdentity(status: ObjectCollector.read(folder, "status", ObjectCollector.smallFileBytesMax)) {
            process.user = identity.user
            process.userGroup = identity.group
        }
        let commandLine = ObjectCollector.read(folder, "cmdline", ObjectCollector.argumentsBytesMax)
        process.arguments = ProcessParser.parseArguments(cmdline: commandLine)
        process.directory = ObjectCollector.link(folder, "cwd")
        process.executable = ObjectCollector.link(folder, "exe")
        process.threads = ObjectCollector.threads(number)
        report.processes.append(process)
        if sections & ObjectsRequest.descriptors != 0 { collectDescriptors(number) }
        if sections & ObjectsRequest.mappings != 0 { collectMappings(folder, number) }
    }

    private static func threads(_ number: Int32) -> [ThreadObject] {
        let path = "/proc/" + Text.decimal(Int(number)) + "/task"
        guard let folder = Directories.open(path) else { return [] }
        var threads: [ThreadObject] = []
        for task in Directories.numbers(folder, limit: threadsMax) {
            let stat = read(folder, Text.decimal(Int(task)) + "/stat", smallFileBytesMax)
            guard let facts = ProcessParser.parseStat(stat) else { continue }
            var thread = ThreadObject()
            thread.number = task
            thread.state = facts.state
            thread.name = facts.name
            threads.append(thread)
        }
        return threads
    }

    private mutating func collectMappings(_ folder: borrowing Descriptor, _ number: Int32) {
        let room = min(ObjectCollector.mappingsOfProcessMax, ObjectCollector.mappingsMax - report.mappings.count)
        let maps = ObjectCollector.read(folder, "maps", ObjectCollector.tableBytesMax)
        let found = MappingParser.parse(maps, process: number, limit: room)
        if found.count == room || maps.count == ObjectCollector.tableBytesMax { report.isTruncated = true }
        report.mappings.append(contentsOf: found)
    }

    // MARK: Descriptors

    private mutating func collectDescriptors(_ process: Int32) {
        let path = "/proc/" + Text.decimal(Int(process))
        guard let links = Directories.open(path + "/fd"), let infos = Directories.open(path + "/fdinfo") else { return }
        for number in Directories.numbers(links, limit: ObjectCollector.descriptorsMax) {
            guard report.descriptors.count < ObjectCollector.descriptorsMax else {
                report.isTruncated = true
                return
            }
            let name = Text.decimal(Int(number))
            // The listing's own descriptors are not the agent's to report.
            if process == 1 && (number == links.number || number == infos.number) { continue }
            var object = DescriptorObject()
            object.process = process
            object.number = number
            object.target = ObjectCollector.link(links, name)
            guard !object.target.isEmpty else { continue }
            describe(&object, links, infos, name)
            report.descriptors.append(object)
        }
    }

    private func describe(
        _ object: inout DescriptorObject, _ links: borrowing Descriptor, _ infos: borrowing Descriptor, _ name: Text
    ) {
        var facts = sys_file_facts()
        if withCString(name, { sys_fstatat(links.number, $0, &facts) }) >= 0 {
            object.device = facts.device
            object.inode = facts.inode
            object.size = facts.size
        }
        object.kind = DescriptorParser.kind(link: object.target, mode: facts.mode)
        if object.kind == .file && facts.device == messageQueueDevice { object.kind = .messageQueue }
        if facts.links == 0 && object.target.hasSuffix(" (deleted)") {
            object.isDeleted = object.kind == .file || object.kind == .directory || object.kind == .memoryFile
            object.target = object.target.dropLast(10)
        }
        DescriptorParser.parseInfo(ObjectCollector.read(infos, name, ObjectCollector.tableBytesMax), into: &object)
        if let number = DescriptorParser.terminalNumber(link: object.target) { object.detail = .terminal(number) }
    }

    // MARK: Sockets

    private mutating func collectSockets() {
        report.unixSockets = unixSocketsWithPeers() ?? ObjectCollector.unixSockets()
        let tables: [(Text, InternetSocketObject.Transport)] = [("tcp", .tcp), ("tcp6", .tcp6), ("udp", .udp), ("udp6", .udp6)]
        for (name, transport) in tables {
            let table = Files.read("/proc/net/" + name, bytesMax: ObjectCollector.tableBytesMax) ?? []
            let room = ObjectCollector.socketsMax - report.internetSockets.count
            report.internetSockets.append(contentsOf: SocketParser.parseInternet(table, transport, limit: room))
        }
        let count = max(report.internetSockets.count, report.unixSockets.count)
        if count >= ObjectCollector.socketsMax { report.isTruncated = true }
    }

    private static func unixSockets() -> [UnixSocketObject] {
        SocketParser.parseUnix(Files.read("/proc/net/unix", bytesMax: tableBytesMax) ?? [], limit: socketsMax)
    }

    /// Asks the kernel through netlink; nil when it cannot tell (the module `unix_diag` is not there).
    private func unixSocketsWithPeers() -> [UnixSocketObject]? {
        guard let netlink = Descriptor(result: sys_diag_socket()) else { return nil }
        let request = SocketDiagnostics.unixRequest
        guard request.withUnsafeBytes({ sys_send(netlink.number, $0.baseAddress, $0.count) }) == request.count else { return nil }
        var sockets: [UnixSocketObject] = []
        var buffer = [UInt8](repeating: 0, count: 65_536)
        while true {
            // The kernel fills the queue while it is asked: nothing there means no answer will come.
            let got = buffer.withUnsafeMutableBytes { sys_receive(netlink.number, $0.baseAddress, $0.count) }
            guard got > 0 else { return nil }
            switch SocketDiagnostics.parse([UInt8](buffer[..<got]), into: &sockets, limit: ObjectCollector.socketsMax) {
            case .more: continue
            case .done: return sockets
            case .failed: return nil
            }
        }
    }

    // MARK: Interprocess communication

    private mutating func collectInterprocess() {
        for (name, kind) in [("shm", .sharedMemory), ("sem", .semaphores), ("msg", .messageQueue)] as [(Text, SysVObject.Kind)] {
            let table = Files.read("/proc/sysvipc/" + name, bytesMax: ObjectCollector.tableBytesMax) ?? []
            report.sysvObjects.append(contentsOf: InterprocessParser.parseSysV(table, kind, limit: ObjectCollector.namedMax))
        }
        if let folder = Directories.open("/dev/shm") {
            for name in Directories.names(folder, limit: ObjectCollector.namedMax) {
                addNamed(folder, name, InterprocessParser.namedObject(sharedMemoryFile: name))
            }
        }
        if let folder = Directories.open("/dev/mqueue") {
            for name in Directories.names(folder, limit: ObjectCollector.namedMax) {
                var object = NamedObject()
                object.kind = .messageQueue
                object.name = "/" + name
                object.bytes = InterprocessParser.parseQueueBytes(ObjectCollector.read(folder, name, ObjectCollector.smallFileBytesMax))
                addNamed(folder, name, object)
            }
        }
    }

    private mutating func addNamed(_ folder: borrowing Descriptor, _ name: Text, _ named: NamedObject) {
        var object = named
        var facts = sys_file_facts()
        // Subdirectories of /dev/shm are ordinary directories, not objects.
        guard withCString(name, { sys_fstatat(folder.number, $0, &facts) }) >= 0, facts.mode & 0o170000 == 0o100000 else { return }
        if object.kind != .messageQueue { object.bytes = facts.size }
        object.mode = facts.mode & 0o777
        object.user = facts.uid
        object.userGroup = facts.gid
        report.namedObjects.append(object)
    }

    // MARK: Files

    private static func read(_ folder: borrowing Descriptor, _ name: Text, _ bytesMax: Int) -> [UInt8] {
        guard let file = Descriptor(result: withCString(name) { sys_openat(folder.number, $0, O_RDONLY) }) else { return [] }
        return Files.read(file, bytesMax: bytesMax)
    }

    private static func link(_ folder: borrowing Descriptor, _ name: Text) -> Text {
        var buffer = [UInt8](repeating: 0, count: linkBytesMax)
        let got = withCString(name) { path in
            buffer.withUnsafeMutableBytes {
                sys_readlinkat(folder.number, path, $0.baseAddress?.assumingMemoryBound(to: CChar.self), $0.count)
            }
        }
        return Text([UInt8](buffer.prefix(max(0, got))))
    }
}
