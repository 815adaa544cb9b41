import Linux

/// How a guest's kernel runs.
public enum GuestMode: String, Sendable, Codable, CaseIterable {
    /// In ring 3, as a Xen-PV domain served by the PV shim: fast wherever ring 0 is emulated.
    case pv
    /// In ring 0 of hardware virtualization.
    case hvm
}

/// A disk of a machine.
public struct BlockDeviceConfiguration: Sendable, Hashable {
    /// The file or block device.
    public var path: String
    /// Whether the guest may not write.
    public var isReadOnly: Bool
    /// Writes go to this file and leave `path` untouched (copy-on-write); nil: writes go to `path`.
    public var overlayPath: String?
    /// Serves the disk instead of a file; nil: the file does.
    public var backend: BlockBackendReference?

    /// A disk.
    public init(path: String, isReadOnly: Bool = false, overlayPath: String? = nil) {
        self.path = path
        self.isReadOnly = isReadOnly
        self.overlayPath = overlayPath
    }

    /// A disk that somebody else serves; one machine at a time may have it.
    public init(backend: any BlockBackend & Sendable) {
        self.init(path: "", isReadOnly: backend.isReadOnly)
        self.backend = BlockBackendReference(backend)
    }
}

/// A disk's backend as a value: equal when it is the same object.
public struct BlockBackendReference: Sendable, Hashable {
    /// The backend.
    public let backend: any BlockBackend & Sendable

    /// Refers to a backend.
    public init(_ backend: any BlockBackend & Sendable) { self.backend = backend }

    /// Whether both refer to one object.
    public static func == (left: BlockBackendReference, right: BlockBackendReference) -> Bool { left.backend === right.backend }

    /// Hashes the object's identity.
    public func hash(into hasher: inout Hasher) { hasher.combine(ObjectIdentifier(backend)) }
}

/// A network interface of a machine.
public struct NetworkDeviceConfiguration: Sendable, Hashable {
    /// An open TAP descriptor (IFF_TAP, IFF_NO_PI, IFF_VNET_HDR); negative: no cable is plugged in, frames get lost.
    ///
    /// The machine takes it over.
    public var tapDescriptor: Int32
    /// The guest's hardware address, six bytes.
    public var macAddress: [UInt8]

    /// A network interface.
    public init(tapDescriptor: Int32, macAddress: [UInt8]) {
        self.tapDescriptor = tapDescriptor
        self.macAddress = macAddress
    }

    /// A network interface without a cable.
    public init(unpluggedWith macAddress: [UInt8]) { self.init(tapDescriptor: -1, macAddress: macAddress) }
}

/// What a machine is made of.
public struct MachineConfiguration: Sendable {
    /// The guest's memory in bytes, a multiple of 2 MiB.
    public var memoryBytes: Int
    /// The kernel, an ELF `vmlinux`.
    public var kernelPath: String
    /// A directory with kernel modules and their load order in `list`; nil: none.
    public var modulesDirectory: String?
    /// Words for the kernel's command line after Aurora's own.
    public var commandLine: [String]
    /// How the kernel runs; nil: as the host's KVM does it best.
    public var mode: GuestMode?
    /// Whether a pv guest that boots keeps its programs apart from its kernel, which costs some microseconds a system call.
    ///
    /// One that goes on from a checkpoint does as it did; in an hvm guest the processor does it.
    public var isStrict = false
    /// The disks, in the order of /dev/vda, /dev/vdb and so on.
    public var blockDevices: [BlockDeviceConfiguration]
    /// The network interface; nil: none.
    public var network: NetworkDeviceConfiguration?
    /// The Unix socket that leads to the guest's vsock ports; nil: none.
    public var vsockSocketPath: String?
    /// Receives everything the guest prints on its console, on the printing thread.
    public var consoleLog: (@Sendable (UnsafeRawBufferPointer) -> Void)?
    /// Whether what vCPUs write is recorded from the first instruction: for a machine that goes on from a checkpoint.
    ///
    /// Otherwise `Machine.setTracksWrites` begins it.
    public var tracksWrites = false
    /// How long its vCPU, and the request that a device carries out, may take to come to rest, in seconds; then the machine has failed.
    package var restSecondsMax = EventLoop.handlerSecondsMax
    /// Entries of KVM's dirty ring, a power of two, where it is offered; zero: its slower bitmaps.
    package var dirtyRingEntries = DirtyRing.entriesDefault
    /// A static program that takes the agent's place as the guest's first; nil: the agent.
    package var initialProgram: [UInt8]?

    /// The least memory a guest boots with: the kernel itself needs most of it.
    public static let memoryBytesMin = 64 << 20
    /// Memory comes in pieces of a large page.
    public static let memoryAlignment = 2 << 20
    static let vsockCID: UInt64 = 3

    /// A machine with this much memory and this kernel, and nothing else.
    public init(memoryBytes: Int, kernelPath: String) {
        self.memoryBytes = memoryBytes
        self.kernelPath = kernelPath
        commandLine = []
        blockDevices = []
    }
}
