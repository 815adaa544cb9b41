/// The addresses inside every group's private network namespace.
public enum GroupNetwork {
    /// The guest's address, 172.30.0.2, in the byte order of the host.
    public static let guestAddress: UInt32 = 0xAC1E_0002
    /// The host's side of the TAP device, 172.30.0.1.
    public static let hostAddress: UInt32 = 0xAC1E_0001
    /// Both are in 172.30.0.0/30.
    public static let prefixLength = 30
    /// The TAP device's name in the namespace.
    public static let tapName = "tap0"
    /// The name of the device in the guest.
    public static let guestInterface = "eth0"
}
