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
    /// The hardware address of every group's network device.
    private static let macAddress: [UInt8] = [0x02, 0xA5, 0x00, 0x00, 0x00, 0x02]

    /// Opens and checks a runtime's launch image.
    ///
    /// - Throws: `LaunchError`.
    init(launchPath: String, base: String) throws {
        self.launchPath = launchPath
        image = try LaunchCache(path: launchPath).open(base)
        state = try image.machineState()
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
