internal import CLinux
public import Linux
import Synchronization

/// An instance host as the pool sees it: a process of its own that forks instances of one runtime.
///
/// It ends, and all its instances with it, when this object goes away or the pool's process does.
public final class InstanceHostLink: Sendable {
    /// Where descriptors are put aside so that none is overwritten before it is passed.
    private static let asideMin = 16
    private static let socketDescriptor: Int32 = 3

    /// The pool's end of the socket.
    public let socket: MessageSocket
    /// The process.
    public let process: Int32
    private let isReaped = Mutex(false)

    /// Starts a host.
    ///
    /// - Parameters:
    ///   - launchPath: the directory of launch images.
    ///   - base: the digest of the runtime's.
    /// - Throws: `SystemError`.
    public init(program: String = "/proc/self/exe", launchPath: String, base: String) throws(SystemError) {
        let (near, far) = try MessageSocket.pair()
        let passed = try InstanceHostLink.aside(far.rawValue)
        socket = near
        process = try InstanceHostLink.spawn(
            program, ["aurora", "instance-host", "--launch", launchPath, "--base", base], passed)
        // Until here: the number is in use.
        _ = far.rawValue
    }

    deinit { end() }

    /// Ends the host and all its instances; returns when the host has ended.
    ///
    /// Idempotent.
    public func end() {
        let wasReaped = isReaped.withLock { isReaped in
            defer { isReaped = true }
            return isReaped
        }
        guard !wasReaped else { return }
        _ = clinux_kill(process, SIGKILL)
        var status: Int32 = 0
        while clinux_wait_for(process, &status) == -Int(EINTR) {}
    }

    /// Asks for a machine.
    ///
    /// - Returns: the machine, which tells on its control socket when it is ready.
    /// - Throws: `SystemError` when the host is gone.
    public func makeMachine(_ name: String) throws(SystemError) -> MachineLink {
        let (control, farControl) = try MessageSocket.pair()
        let (channel, farChannel) = try Socket.pair()
        try socket.send(InstanceHostRequest(machine: name), [farControl.rawValue, farChannel.rawValue])
        return MachineLink(name: name, control: control, channel: channel)
    }

    private static func aside(_ descriptor: Int32) throws(SystemError) -> SharedDescriptor {
        let number = try systemCall("duplicate", "descriptor \(descriptor)") { clinux_fcntl(descriptor, F_DUPFD_CLOEXEC, asideMin) }
        return SharedDescriptor(OwnedDescriptor(adopting: Int32(number)))
    }

    private static func spawn(_ program: String, _ arguments: [String], _ passed: SharedDescriptor) throws(SystemError) -> Int32 {
        var actions = posix_spawn_file_actions_t()
        var attributes = posix_spawnattr_t()
        posix_spawn_file_actions_init(&actions)
        posix_spawnattr_init(&attributes)
        defer {
            posix_spawn_file_actions_destroy(&actions)
            posix_spawnattr_destroy(&attributes)
        }
        posix_spawn_file_actions_adddup2(&actions, passed.rawValue, socketDescriptor)
        posix_spawn_file_actions_addclosefrom_np(&actions, socketDescriptor + 1)
        // The terminal's interrupt is for the gateway, which then ends its instances.
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETPGROUP))
        var words: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) }
        words.append(nil)
        defer { for word in words { free(word) } }
        var process: pid_t = 0
        let result = posix_spawn(&process, program, &actions, &attributes, &words, clinux_environment())
        guard result == 0 else { throw SystemError("start", "the instance host \(program)", errno: Errno(rawValue: result)) }
        return process
    }
}

/// A machine of the pool: its control socket, and the stream to the function in it.
public final class MachineLink: Sendable {
    /// Its name, unique in its host.
    public let name: String
    /// Control messages; the machine ends when it is closed.
    public let control: MessageSocket
    /// The stream that leads to the agent's function port once a function was restored.
    public let channel: SharedDescriptor

    init(name: String, control: MessageSocket, channel: SharedDescriptor) {
        self.name = name
        self.control = control
        self.channel = channel
    }
}
