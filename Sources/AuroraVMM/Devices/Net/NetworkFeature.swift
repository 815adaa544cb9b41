internal import CLinux

/// Feature bits of a network device (virtio 1.2, section 5.1.3).
enum NetworkFeature {
    static let checksum: UInt64 = 1 << 0
    static let guestChecksum: UInt64 = 1 << 1
    static let mtu: UInt64 = 1 << 3
    static let macAddress: UInt64 = 1 << 5
    static let guestTSO4: UInt64 = 1 << 7
    static let guestTSO6: UInt64 = 1 << 8
    static let guestECN: UInt64 = 1 << 9
    static let hostTSO4: UInt64 = 1 << 11
    static let hostTSO6: UInt64 = 1 << 12
    static let hostECN: UInt64 = 1 << 13
    static let mergeableBuffers: UInt64 = 1 << 15
    static let status: UInt64 = 1 << 16

    static let offered =
        checksum | guestChecksum | macAddress | guestTSO4 | guestTSO6 | guestECN | hostTSO4 | hostTSO6 | hostECN | mergeableBuffers | status

    /// What the host may leave unfinished in frames for a guest with these features.
    static func offloads(_ features: UInt64) -> UInt32 {
        guard features & guestChecksum != 0 else { return 0 }
        var bits = UInt32(TUN_F_CSUM)
        if features & guestTSO4 != 0 { bits |= UInt32(TUN_F_TSO4) }
        if features & guestTSO6 != 0 { bits |= UInt32(TUN_F_TSO6) }
        if features & guestECN != 0, bits & UInt32(TUN_F_TSO4 | TUN_F_TSO6) != 0 { bits |= UInt32(TUN_F_TSO_ECN) }
        return bits
    }
}

/// What a network device has carried since it was made.
public struct NetworkCounters: Equatable, Sendable {
    /// Frames the guest received.
    public var framesReceived = 0
    /// Frames the guest sent.
    public var framesSent = 0
    /// Bytes the guest received, without headers of virtio.
    public var bytesReceived = 0
    /// Bytes the guest sent, without headers of virtio.
    public var bytesSent = 0
    /// Frames the host or the guest had no room for, or that made no sense.
    public var framesDropped = 0
}
