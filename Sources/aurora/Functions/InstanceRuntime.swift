import AuroraVMM
import Linux
import Snapshot

/// What all instances of one runtime have in common; read once, before any of them is forked.
struct InstanceRuntime: Sendable {
    /// The launch images.
    let launchPath: String
    /// The runtime's launch image.
    let image: LaunchImage
    /// The runtime's state.
    let state: MachineState
    /// The runtime's own working set.
    private let workingSet: WorkingSet?
    /// Functions' launch images that have been read.
    var launches = PreparedLaunches()
    /// The hardware address of every group's network device.
    private static let macAddress: [UInt8] = [0x02, 0xA5, 0x00, 0x00, 0x00, 0x02]

    /// Opens and checks a runtime's launch image.
    ///
    /// - Throws: `LaunchError`.
    init(launchPath: String, base: String) throws {
        self.launchPath = launchPath
        image = try LaunchCache(path: launchPath).open(base)
        state = try image.machineState()
        workingSet = image.workingSet()
    }

    /// Reads a function's launch image ahead; one that cannot be read is left to whoever restores it.
    mutating func prepare(_ digest: String) {
        // Once more for one that was read before: its working set may be another one.
        if let launch = try? read(digest) { launches.add(launch, digest) }
    }

    /// The runtime itself as something to launch.
    var own: PreparedLaunch { PreparedLaunch(image: image, state: state, workingSet: workingSet) }

    /// Reads a function's launch image.
    ///
    /// - Throws: `LaunchError`.
    func read(_ digest: String) throws(LaunchError) -> PreparedLaunch {
        let opened = try LaunchImage(directory: "\(launchPath)/\(digest)")
        guard opened.manifest.digest == digest, opened.manifest.base == image.manifest.digest else {
            throw .unsuitable("\(digest) is not derived from this machine's launch image \(image.manifest.digest)")
        }
        return PreparedLaunch(image: opened, state: try opened.machineState(), workingSet: opened.workingSet())
    }

    /// The host's side of an instance's machine.
    func configuration(_ disk: LaunchDisk, console: (@Sendable (UnsafeRawBufferPointer) -> Void)?) -> MachineConfiguration {
        var configuration = MachineConfiguration(memoryBytes: MachineConfiguration.memoryBytesMin, kernelPath: "")
        configuration.blockDevices = [BlockDeviceConfiguration(backend: disk)]
        if image.manifest.hasNetwork { configuration.network = NetworkDeviceConfiguration(unpluggedWith: InstanceRuntime.macAddress) }
        configuration.consoleLog = console
        // Nothing is checkpointed: a ring would cost a MiB.
        configuration.dirtyRingEntries = 0
        return configuration
    }
}

/// A function's launch image with its state, ready to be put into a machine.
struct PreparedLaunch: Sendable {
    let image: LaunchImage
    let state: MachineState
    let workingSet: WorkingSet?
}

/// Launch images that have been read ahead; their files stay open.
struct PreparedLaunches: Sendable {
    private static let countMax = 64
    private var launches: [String: PreparedLaunch] = [:]
    private var order: [String] = []

    subscript(digest: String) -> PreparedLaunch? { launches[digest] }

    /// Keeps one; the one that came first goes when there are too many.
    mutating func add(_ launch: PreparedLaunch, _ digest: String) {
        if launches.updateValue(launch, forKey: digest) == nil { order.append(digest) }
        if order.count > PreparedLaunches.countMax { launches[order.removeFirst()] = nil }
    }

    /// Lets one go.
    mutating func forget(_ digest: String) {
        launches[digest] = nil
        order.removeAll { $0 == digest }
    }
}
