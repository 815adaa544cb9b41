internal import CLinux
public import Linux
import Synchronization

/// An instance host as the pool sees it: a process of its own that forks instances of one runtime.
///
/// It ends, and all its instances with it, when this object goes away or the pool's process does.
public final class InstanceHostLink: Sendable {
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
        socket = near
        let standard = (0...2).map { (descriptor: Int32($0), target: Int32($0)) }
        // The terminal's interrupt is for the gateway, which then ends its instances.
        process = try ProgramStart(
            program, ["aurora", "instance-host", "--launch", launchPath, "--base", base], membership: .ownGroup
        ).start(standard + [(far.rawValue, InstanceHostLink.socketDescriptor)])
        // Until here: the number is in use.
        _ = far.rawValue
    }

    deinit { end() }

    /// Ends the host and all its instances; returns when the host has ended.
    ///
    /// Idempotent.
    public func end() {
        guard kill() else { return }
        reap()
    }

    /// Ends the host and all its instances, and does not wait for it.
    func endLater() {
        guard kill() else { return }
        do throws(SystemError) { try DetachedThread.start("reaper") { @Sendable [self] in reap() } } catch { reap() }
    }

    /// Kills the host; false when that was done before.
    private func kill() -> Bool {
        let wasReaped = isReaped.withLock { isReaped in
            defer { isReaped = true }
            return isReaped
        }
        if !wasReaped { _ = clinux_kill(process, SIGKILL) }
        return !wasReaped
    }

    private func reap() {
        var status: Int32 = 0
        while clinux_wait_for(process, &status) == -Int(EINTR) {}
    }

    /// Asks for a machine.
    ///
    /// - Returns: the machine, which tells on its control socket when it is ready.
    /// - Throws: `SystemError` when the host is gone, or does not read what it is asked.
    public func makeMachine(_ name: String) throws(SystemError) -> MachineLink {
        let (link, far) = try MachineLink.pair(name)
        try ask(for: name, far)
        return link
    }

    /// Hands the host the far ends of a machine's sockets.
    func ask(for name: String, _ far: [SharedDescriptor]) throws(SystemError) {
        try socket.send(InstanceHostRequest(machine: name), far.map(\.rawValue), waits: false)
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

    /// A machine's link, and the far ends of its sockets, of which nobody knows yet.
    static func pair(_ name: String) throws(SystemError) -> (MachineLink, far: [SharedDescriptor]) {
        let (control, farControl) = try MessageSocket.pair()
        let (channel, farChannel) = try Socket.pair()
        return (MachineLink(name: name, control: control, channel: channel), [farControl, farChannel])
    }
}
