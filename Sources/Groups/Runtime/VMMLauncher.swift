public import AgentProtocol
internal import CLinux
public import Linux

/// Starts the VMM process of a group: this program again, detached from the terminal, with the group's lock and a socket.
public enum VMMLauncher {
    /// The descriptor under which the process finds the held lock.
    public static let lockDescriptor: Int32 = 3
    /// The descriptor under which it finds the first client's socket.
    public static let clientDescriptor: Int32 = 4

    /// Starts the process and returns the caller's end of the client's socket.
    ///
    /// - Parameter terminalSize: what the program's terminal has from its first moment on; it lies in the socket before the process is.
    /// - Throws: `GroupError` (`.host`) when the process cannot be started.
    public static func start(
        _ directory: GroupDirectory, lock: consuming GroupLock, restoring origin: CheckpointAddress? = nil,
        terminalSize: WindowSize? = nil, program: String = "/proc/self/exe"
    ) throws(GroupError) -> SharedDescriptor {
        try GroupCgroup(OwnProcess.environment)?.check()
        do throws(SystemError) {
            let (near, far) = try Socket.pair()
            if let terminalSize {
                var bytes: [UInt8] = []
                Frame.appendMessage(.resize, request: 1, payload: terminalSize.encoded, to: &bytes)
                try DescriptorIO.sendAll(bytes, to: near.rawValue, what: "client")
            }
            let log = try OwnedDescriptor.open(directory.engineLogPath, O_WRONLY | O_CREAT | O_APPEND)
            let null = try OwnedDescriptor.open("/dev/null", O_RDONLY)
            let restoring = origin.map { ["--restore", $0.description] } ?? []
            let arguments = ["aurora", "vmm", "--group", directory.name.text] + restoring
            _ = try ProgramStart(program, arguments, membership: .ownSession).start([
                (null.rawValue, 0), (log.rawValue, 1), (log.rawValue, 2), (lock.rawValue, lockDescriptor), (far.rawValue, clientDescriptor),
            ])
            // Until here: the numbers are in use.
            _ = (null.rawValue, log.rawValue, lock.rawValue, far.rawValue)
            return near
        } catch {
            throw GroupError(.host, "\(error)")
        }
    }
}
