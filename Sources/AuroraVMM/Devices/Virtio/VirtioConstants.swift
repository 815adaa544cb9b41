/// Registers of a virtio-mmio window, version 2 (virtio 1.2, section 4.2.2).
enum MMIORegister {
    static let magic = 0x000
    static let version = 0x004
    static let deviceType = 0x008
    static let vendor = 0x00c
    static let deviceFeatures = 0x010
    static let deviceFeaturesSelect = 0x014
    static let driverFeatures = 0x020
    static let driverFeaturesSelect = 0x024
    static let queueSelect = 0x030
    static let queueSizeMax = 0x034
    static let queueSize = 0x038
    static let queueReady = 0x044
    static let queueNotify = 0x050
    static let interruptStatus = 0x060
    static let interruptAcknowledge = 0x064
    static let status = 0x070
    static let descriptorTableLow = 0x080
    static let descriptorTableHigh = 0x084
    static let driverRingLow = 0x090
    static let driverRingHigh = 0x094
    static let deviceRingLow = 0x0a0
    static let deviceRingHigh = 0x0a4
    static let sharedMemoryLengthLow = 0x0b0
    static let sharedMemoryBaseHigh = 0x0bc
    static let configurationGeneration = 0x0fc
    static let configuration = 0x100

    static let magicValue: UInt32 = 0x7472_6976  // "virt"
    static let versionValue: UInt32 = 2
    static let vendorValue: UInt32 = 0x4152_5541  // "AURA"
}

/// The device status field (virtio 1.2, section 2.1).
struct VirtioStatus: OptionSet, Hashable, Sendable, Codable {
    let rawValue: UInt32
    static let acknowledge = VirtioStatus(rawValue: 1)
    static let driver = VirtioStatus(rawValue: 2)
    static let driverOK = VirtioStatus(rawValue: 4)
    static let featuresOK = VirtioStatus(rawValue: 8)
    static let needsReset = VirtioStatus(rawValue: 64)
    static let failed = VirtioStatus(rawValue: 128)
    /// What a driver may set.
    static let settable: VirtioStatus = [.acknowledge, .driver, .driverOK, .featuresOK, .failed]
    static let all: VirtioStatus = [.settable, .needsReset]
}

/// Bits of the interrupt status register (virtio 1.2, section 4.2.2).
enum InterruptReason {
    static let usedBuffer: UInt32 = 1
    static let configuration: UInt32 = 2
}

/// Feature bits that belong to every device (virtio 1.2, section 6).
enum VirtioFeature {
    static let indirectDescriptors: UInt64 = 1 << 28
    static let eventIndex: UInt64 = 1 << 29
    static let version1: UInt64 = 1 << 32
    /// Offered by the transport for all devices.
    static let common = indirectDescriptors | eventIndex | version1
}

/// Device types (virtio 1.2, section 5).
public enum VirtioDeviceType: UInt32, Sendable, Codable {
    case network = 1
    case block = 2
    case console = 3
    case entropy = 4
    case balloon = 5
    case vsock = 19
}
