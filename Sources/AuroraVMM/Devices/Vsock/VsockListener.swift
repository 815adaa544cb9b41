internal import CLinux
import Linux

/// The Unix socket through which processes of the host reach the guest.
final class VsockListener {
    /// The longest greeting, "CONNECT 4294967295" and a line end, with room to spare.
    static let greetingBytesMax = 32
    private static let backlog: Int32 = 128

    private let socket: OwnedDescriptor
    private let path: String

    /// Listens at `path`, in place of a socket that a dead process left there.
    ///
    /// - Throws: `SystemError` with the path.
    init(path: String) throws(SystemError) {
        let socket = try Self.makeSocket()
        let descriptor = socket.rawValue
        // The permissions of the socket become those of its path: its owner's alone.
        try systemCall("close to others", path) { clinux_fchmod(descriptor, 0o600) }
        if cdevice_is_socket(path) == 1 { unlink(path) }
        try systemCall("listen at", path) { cdevice_unix_bind(descriptor, path) }
        try systemCall("listen at", path) { cdevice_listen(descriptor, Self.backlog) }
        self.socket = socket
        self.path = path
    }

    deinit { unlink(path) }

    var descriptor: Int32 { socket.rawValue }

    /// The next client that waits.
    func accept() -> OwnedDescriptor? {
        let result = cdevice_accept(socket.rawValue)
        return result < 0 ? nil : OwnedDescriptor(adopting: Int32(truncatingIfNeeded: result))
    }

    /// Connects to a Unix socket without waiting.
    ///
    /// - Throws: `SystemError` when nobody listens there, or its queue is full.
    static func connect(path: String) throws(SystemError) -> OwnedDescriptor {
        let socket = try makeSocket()
        let descriptor = socket.rawValue
        try systemCall("connect to", path) { cdevice_unix_connect(descriptor, path) }
        return socket
    }

    private static func makeSocket() throws(SystemError) -> OwnedDescriptor {
        OwnedDescriptor(adopting: Int32(truncatingIfNeeded: try systemCall("create", "a Unix socket") { cdevice_unix_socket() }))
    }

    enum Greeting: Equatable {
        case incomplete
        case bad
        case port(UInt32)
    }

    /// Takes the greeting line from a socket, if all of it is there.
    static func readGreeting(_ socket: Int32) -> Greeting {
        var bytes = [UInt8](repeating: 0, count: greetingBytesMax)
        let count = cdevice_peek(socket, &bytes, bytes.count)
        if count == -Int(EAGAIN) || count == -Int(EINTR) { return .incomplete }
        guard count > 0 else { return .bad }
        guard let end = bytes[..<count].firstIndex(of: UInt8(ascii: "\n")) else {
            return count < greetingBytesMax ? .incomplete : .bad
        }
        guard clinux_read(socket, &bytes, end + 1) == end + 1 else { return .bad }
        return parse(bytes[..<end])
    }

    static func parse(_ line: ArraySlice<UInt8>) -> Greeting {
        let prefix = Array("CONNECT ".utf8)
        guard line.starts(with: prefix) else { return .bad }
        let digits = line.dropFirst(prefix.count)
        guard !digits.isEmpty, digits.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }),
            let port = UInt32(String(decoding: digits, as: UTF8.self))
        else { return .bad }
        return .port(port)
    }
}

/// Ticks while something waits.
final class VsockTimer {
    private static let periodNanoseconds: Int64 = 250_000_000
    private let timer: OwnedDescriptor

    /// A timer that stands still.
    ///
    /// - Throws: `SystemError` when the process has no room for descriptors.
    init() throws(SystemError) {
        let flags = Int32(TFD_NONBLOCK | TFD_CLOEXEC)
        let number = try systemCall("create", "a timer") { clinux_timerfd_create(CLOCK_MONOTONIC, flags) }
        timer = OwnedDescriptor(adopting: Int32(truncatingIfNeeded: number))
    }

    var descriptor: Int32 { timer.rawValue }

    var isArmed = false {
        didSet {
            if isArmed == oldValue { return }
            let period = isArmed ? Self.periodNanoseconds : 0
            _ = clinux_timerfd_settime(timer.rawValue, 0, period, period)
        }
    }

    func drain() {
        var count: UInt64 = 0
        _ = clinux_read(timer.rawValue, &count, 8)
    }
}

/// Carries the outcome of a connection to the task that waits for it.
///
/// `@unchecked Sendable`: used under the device's lock, or before the device knows it, or by its last owner.
final class VsockReply: @unchecked Sendable {
    var descriptor: Int32 = -1
    private var continuation: CheckedContinuation<Result<Int32, VsockError>, Never>?

    init(_ continuation: CheckedContinuation<Result<Int32, VsockError>, Never>) { self.continuation = continuation }

    /// A machine that ends lets go of who was not answered.
    deinit { finish(.notReady) }

    func finish(_ error: VsockError?) {
        guard let continuation = continuation.take() else { return }
        guard let error else { return continuation.resume(returning: .success(descriptor)) }
        if descriptor >= 0 { _ = OwnedDescriptor(adopting: descriptor) }
        continuation.resume(returning: .failure(error))
    }
}
