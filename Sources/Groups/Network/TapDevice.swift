internal import CLinux
public import Linux

/// The host's end of a group's network: Ethernet frames, each after a virtio-net header.
public struct TapDevice: ~Copyable, Sendable {
    private let descriptor: OwnedDescriptor
    /// The same for every group, each alone with its guest: a guest that goes on from a checkpoint knows the host by it.
    private static let hardwareAddress: [UInt8] = [0x02, 0xA5, 0x00, 0x00, 0x00, 0x01]

    /// Makes and configures the TAP device of the namespace the process is in.
    ///
    /// - Throws: `SystemError` when /dev/net/tun is missing or not permitted.
    public init() throws(SystemError) {
        let path = "/dev/net/tun"
        let tap = try OwnedDescriptor.open(path, O_RDWR | O_NONBLOCK)
        let number = tap.rawValue
        try systemCall("create a TAP device with", path) { clinux_tap_attach(number, GroupNetwork.tapName) }
        let socket = OwnedDescriptor(
            adopting: Int32(try systemCall("create", "a socket") { clinux_socket(AF_INET, Int32(SOCK_DGRAM.rawValue)) }))
        let control = socket.rawValue
        try systemCall("start", "the loopback device") { clinux_interface_up(control, "lo") }
        try systemCall("give a hardware address to", GroupNetwork.tapName) {
            clinux_interface_hardware_address(control, GroupNetwork.tapName, TapDevice.hardwareAddress)
        }
        try systemCall("give an address to", GroupNetwork.tapName) {
            clinux_interface_address(control, GroupNetwork.tapName, GroupNetwork.hostAddress, Int32(GroupNetwork.prefixLength))
        }
        try systemCall("start", GroupNetwork.tapName) { clinux_interface_up(control, GroupNetwork.tapName) }
        descriptor = tap
    }

    /// Gives the open TAP device away; it is non-blocking.
    public consuming func takeDescriptor() -> OwnedDescriptor { descriptor }
}
