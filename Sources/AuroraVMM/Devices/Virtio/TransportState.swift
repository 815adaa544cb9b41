/// The registers and queues of a virtio-mmio device together with the device's own state.
public struct TransportState<Device: Codable & Equatable & Sendable>: Codable, Equatable, Sendable {
    /// The version written by this code.
    public static var currentVersion: Int { 1 }

    /// The layout of this value.
    public var version = 1
    /// The status register.
    public var status: UInt32
    /// DeviceFeaturesSel.
    public var deviceFeaturesSelect: UInt32
    /// DriverFeaturesSel.
    public var driverFeaturesSelect: UInt32
    /// Features the driver has accepted.
    public var driverFeatures: UInt64
    /// QueueSel.
    public var queueSelect: UInt32
    /// Whether a change of the configuration space waits for the driver's acknowledgement.
    public var configurationChangePending: Bool
    /// ConfigGeneration.
    public var configurationGeneration: UInt32
    /// Every queue.
    public var queues: [QueueState]
    /// What the device itself must remember.
    public var device: Device
}

/// The saved state of any virtio device.
public enum VirtioDeviceState: Codable, Equatable, Sendable {
    case console(TransportState<EmptyDeviceState>)
    case block(TransportState<BlockState>)
    case entropy(TransportState<EmptyDeviceState>)
    case network(TransportState<NetworkState>)
    case vsock(TransportState<VsockState>)
    case balloon(TransportState<BalloonState>)
}
