import CLinux
import Linux

@testable import AuroraVMM

/// A pair of packet sockets in place of a TAP interface.
final class SocketFrames: FrameLink {
    let device: OwnedDescriptor
    let host: OwnedDescriptor
    private(set) var offloads: UInt32?

    init() throws(SystemError) {
        var pair: [Int32] = [-1, -1]
        let result = socketpair(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue), 0, &pair)
        guard result == 0 else { throw SystemError("create", "a socket pair", errno: Errno(rawValue: clinux_errno())) }
        for descriptor in pair { _ = clinux_fcntl(descriptor, F_SETFL, Int(O_NONBLOCK)) }
        device = OwnedDescriptor(adopting: pair[0])
        host = OwnedDescriptor(adopting: pair[1])
    }

    var descriptor: Int32 { device.rawValue }
    func setOffloads(_ bits: UInt32) throws(SystemError) { offloads = bits }

    func send(_ frame: [UInt8]) -> Bool { clinux_write(host.rawValue, frame, frame.count) == frame.count }

    func receive() -> [UInt8]? {
        var buffer = [UInt8](repeating: 0, count: 70_000)
        let count = clinux_read(host.rawValue, &buffer, buffer.count)
        return count > 0 ? Array(buffer[..<count]) : nil
    }
}
