internal import CLinux
internal import Linux

/// Hands clients of `attach.sock` to the program's session.
final class AttachServer: Sendable {
    private let listener: SharedDescriptor

    init(path: String, loop: EventLoop, session: ApplicationSession) throws(SystemError) {
        let socket = SharedDescriptor(try Socket.listen(unix: path))
        try Socket.setNonBlocking(socket.rawValue)
        listener = socket
        _ = try loop.register(socket.rawValue) { _ in
            guard let number = Int32(exactly: clinux_accept_blocking(socket.rawValue)), number >= 0 else { return }
            session.attach(SharedDescriptor(OwnedDescriptor(adopting: number)))
        }
    }
}
