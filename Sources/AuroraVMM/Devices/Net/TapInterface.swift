internal import CLinux
import Linux

/// What a network device needs below it: whole frames, each behind a virtio-net header, on one non-blocking descriptor.
protocol FrameLink: AnyObject {
    /// For readv, writev and epoll.
    var descriptor: Int32 { get }
    /// Says which unfinished frames the guest takes (`TUN_F_` bits).
    func setOffloads(_ bits: UInt32) throws(SystemError)
}

/// A TAP interface of the network namespace it was opened in.
final class TapInterface: FrameLink {
    /// Bytes of the virtio-net header with the count of buffers.
    static let headerBytes: Int32 = 12

    private let file: OwnedDescriptor
    /// The interface's name.
    let name: String
    var descriptor: Int32 { file.rawValue }

    /// Makes or attaches to an interface of the calling thread's network namespace.
    ///
    /// - Throws: `SystemError` when /dev/net/tun cannot be used or the interface is taken.
    convenience init(name: String) throws(SystemError) {
        let file = try OwnedDescriptor.open("/dev/net/tun", O_RDWR)
        var bytes = [CChar](repeating: 0, count: Int(IFNAMSIZ))
        for (index, byte) in name.utf8.prefix(Int(IFNAMSIZ) - 1).enumerated() { bytes[index] = CChar(bitPattern: byte) }
        let descriptor = file.rawValue
        try systemCall("attach to", "TAP interface \(name)") { cdevice_tap_attach(descriptor, &bytes) }
        try self.init(adopting: file, name: name)
    }

    /// Uses a TAP descriptor that is attached already (`IFF_TAP`, `IFF_NO_PI`, `IFF_VNET_HDR`).
    ///
    /// - Throws: `SystemError` when it is not such a descriptor.
    init(adopting file: consuming OwnedDescriptor, name: String) throws(SystemError) {
        let descriptor = file.rawValue
        var size = Self.headerBytes
        try systemCall("set the header size of", "TAP interface \(name)") {
            withUnsafeMutableBytes(of: &size) { clinux_ioctl(descriptor, CTUN_SETVNETHDRSZ, UInt(bitPattern: $0.baseAddress)) }
        }
        let flags = try systemCall("read the flags of", "TAP interface \(name)") { clinux_fcntl(descriptor, F_GETFL, 0) }
        try systemCall("set the flags of", "TAP interface \(name)") { clinux_fcntl(descriptor, F_SETFL, flags | Int(O_NONBLOCK)) }
        self.file = file
        self.name = name
    }

    func setOffloads(_ bits: UInt32) throws(SystemError) {
        let descriptor = file.rawValue
        try systemCall("set the offloads of", "TAP interface \(name)") { clinux_ioctl(descriptor, CTUN_SETOFFLOAD, UInt(bits)) }
    }
}
