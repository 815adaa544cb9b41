internal import CLinux
public import Linux

/// A socket of whole messages (`SOCK_SEQPACKET`) between the gateway, an instance host and an instance, which may carry descriptors.
///
/// Safe to share between threads.
public final class MessageSocket: Sendable {
    /// What came.
    public enum Received: Sendable {
        /// A message, and the descriptors with it.
        case message([UInt8], [SharedDescriptor])
        /// Nothing there yet.
        case nothing
        /// The other side is gone.
        case closed
    }
    private let descriptor: OwnedDescriptor

    /// The descriptor's number.
    public var rawValue: Int32 { descriptor.rawValue }

    /// Takes over one end.
    public init(adopting descriptor: consuming OwnedDescriptor) { self.descriptor = descriptor }

    /// Two connected ends.
    ///
    /// - Throws: `SystemError`.
    public static func pair() throws(SystemError) -> (MessageSocket, SharedDescriptor) {
        var numbers: [Int32] = [-1, -1]
        try systemCall("create", "a socket pair") { clinux_message_socketpair(&numbers) }
        return (MessageSocket(adopting: OwnedDescriptor(adopting: numbers[0])), SharedDescriptor(OwnedDescriptor(adopting: numbers[1])))
    }

    /// Sends a message.
    ///
    /// - Parameter waits: whether to wait for room; a side that serves others must not.
    /// - Throws: `SystemError`; `EPIPE` when the other side is gone, `EAGAIN` when it has not read what it was sent before.
    public func send(_ message: some Encodable, _ passed: [Int32] = [], waits: Bool = true) throws(SystemError) {
        guard let bytes = InstanceMessages.encode(message) else { throw SystemError("encode", "a message", errno: .invalidArgument) }
        let number = descriptor.rawValue
        try systemCall("send", "a message to an instance") {
            clinux_send_with(number, bytes, bytes.count, passed, Int32(passed.count), waits ? 1 : 0)
        }
    }

    /// Receives a message.
    ///
    /// - Parameter waits: whether to wait for one.
    public func receive(waits: Bool) -> Received {
        var bytes = [UInt8](repeating: 0, count: InstanceMessages.bytesMax + 1)
        var passed = [Int32](repeating: -1, count: Int(CLINUX_PASSED_MAX))
        var count: Int32 = 0
        while true {
            let result = clinux_receive_with(descriptor.rawValue, &bytes, bytes.count, &passed, &count, waits ? 1 : 0)
            if result == -Int(EINTR) { continue }
            let descriptors = passed.prefix(Int(count)).map { SharedDescriptor(OwnedDescriptor(adopting: $0)) }
            if result == -Int(EAGAIN) { return .nothing }
            guard result > 0 else { return .closed }
            return .message(Array(bytes.prefix(result)), descriptors)
        }
    }
}
