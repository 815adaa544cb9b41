internal import AgentClient
internal import AgentProtocol
internal import CLinux
internal import Linux
import Synchronization

/// From the specification of the machine to a configured guest.
extension GroupRuntime {
    /// How long one answer of the agent may take while the guest starts.
    private static let greetingTimeout = Duration.seconds(1)

    func startMachine(_ tap: SharedDescriptor?) throws {
        let console = try ConsoleFile(path: directory.consolePath)
        let machine = try makeMachine(
            GroupMachineSpecification(
                configuration: configuration, directory: directory, storePath: data.storePath(of: configuration),
                storeRuntimePath: data.storeRuntimePath, origin: origin, kernelPath: data.kernelPath, disks: disks,
                vsockSocketPath: try vsockPathToBind(), tap: tap, consoleLog: { console.append($0) },
                context: { [weak self] in self?.context }, warn: { [weak self] in self?.warn($0) },
                tell: { [weak self] in self?.tell($0, $1) }))
        self.machine.withLock { $0 = machine }
        let events = events
        machine.whenEnded { events.push(.machineEnded($0), .once) }
        try machine.start()
        // What the disk has to be told is told when the machine runs.
        let (mode, times) = (machine.modeName, machine.restoreTimes)
        update { status in
            status.mode = mode
            if let times { status.restoreTimes = times }
        }
    }

    /// The disks: the image's root, then the volumes, which are the store's for a group that is persisted.
    private var disks: [GroupMachineSpecification.Disk] {
        let root = GroupMachineSpecification.Disk.volume(map: 1, importedFrom: nil, readOnly: false)
        let isPersisted = configuration.persistence != nil
        return [root]
            + configuration.volumes.enumerated().map { index, volume in
                let map = UInt16(truncatingIfNeeded: index + 2)
                return isPersisted
                    ? .volume(map: map, importedFrom: volume.file, readOnly: volume.readOnly)
                    : .file(path: volume.file, readOnly: volume.readOnly)
            }
    }

    /// What each checkpoint keeps of the host's side; nil before the program runs.
    var context: GroupContext? {
        let status = status.withLock { $0 }
        guard let session = status.session else { return nil }
        var context = GroupContext(configuration: configuration, session: session, hasNetwork: status.hasNetwork)
        context.kernelRelease = status.kernelRelease
        context.outputBytes = live.withLock { $0?.0.outputBytes.load(ordering: .relaxed) } ?? 0
        return context
    }

    /// Where the machine makes its vsock socket; a path too long for a socket's address leads through the opened directory.
    private func vsockPathToBind() throws(SystemError) -> String {
        let path = directory.vsockSocketPath
        guard path.utf8.count > GroupRuntime.socketPathBytesMax else { return path }
        let opened = SharedDescriptor(try OwnedDescriptor.open(directory.runtimePath, O_PATH | O_DIRECTORY))
        runtimeDirectory.withLock { $0 = opened }
        return "/proc/self/fd/\(opened.rawValue)/vsock.sock"
    }

    /// The most bytes of a socket's path (`sun_path` of unix(7), less its terminator).
    private static let socketPathBytesMax = 107

    /// Connects until the agent answers, the machine ends or the time is over.
    func waitForAgent() throws(GroupError) -> AgentClient {
        var early: GroupError?
        let agent = try waitForAgent { event in
            do throws(GroupError) { try endedEarly(event) } catch { early = error }
            return early == nil
        }
        if let early { throw early }
        guard let agent else { throw GroupError(.guest, "The group was stopped before its program started") }
        return agent
    }

    /// Connects until the agent answers, the time is over, or an event is not to be waited out.
    ///
    /// - Parameter isToGoOn: takes the events that come meanwhile; false: nobody needs the agent any more.
    func waitForAgent(_ isToGoOn: (Event) -> Bool) throws(GroupError) -> AgentClient? {
        let begin = clinux_monotonic_milliseconds()
        let limit = Int64(configuration.startTimeoutSeconds) * 1000
        var deadline = begin + limit
        while true {
            let pausesBefore = pauses.load(ordering: .acquiring)
            do throws(GroupError) {
                let agent = try GroupAgent.connect(directory, timeout: GroupRuntime.greetingTimeout)
                let elapsed = Int(clinux_monotonic_milliseconds() - begin)
                let release = agent.welcome.kernelRelease.string
                update { status in
                    status.startMilliseconds = elapsed
                    status.kernelRelease = release
                }
                return agent
            } catch {
                // A guest that stands still because somebody wants that answers when it goes on.
                if isPaused || pauses.load(ordering: .acquiring) != pausesBefore { deadline = clinux_monotonic_milliseconds() + limit }
                guard clinux_monotonic_milliseconds() < deadline else {
                    throw GroupError(
                        .guest, "The guest's agent did not answer within \(configuration.startTimeoutSeconds) seconds (\(error.message))",
                        remedy: consoleRemedy)
                }
            }
            if let event = events.next(timeoutMilliseconds: 3), !isToGoOn(event) { return nil }
        }
    }

    private func endedEarly(_ event: Event) throws(GroupError) {
        switch event {
        case .machineEnded(let outcome):
            throw GroupError(.guest, "The guest ended before its program started: \(GroupRuntime.describe(outcome))", remedy: consoleRemedy)
        case .stop, .powerCut, .session(.cancelled): throw GroupError(.guest, "The group was stopped before its program started")
        case .session, .rolledBack, .saved: break
        }
    }

    /// The console's end, which is where a guest that does not start says why.
    var consoleRemedy: String {
        let tail = machine.withLock { $0 }?.consoleTail ?? ""
        let lines = tail.split(whereSeparator: \.isNewline).suffix(20).map { "  | \($0)" }.joined(separator: "\n")
        return lines.isEmpty ? "The guest wrote nothing to its console." : "The last lines of its console:\n\(lines)"
    }

    func configureGuest(_ agent: AgentClient) throws(GroupError) {
        let hasNetwork = status.withLock { $0.hasNetwork }
        let network = ConfigureRequest.Network(
            interface: Text(GroupNetwork.guestInterface), address: GroupNetwork.guestAddress.bigEndian,
            prefixLength: UInt8(GroupNetwork.prefixLength), gateway: GroupNetwork.hostAddress.bigEndian)
        let request = ConfigureRequest(
            hostname: Text(configuration.name.text), network: hasNetwork ? network : nil,
            wallClockNanoseconds: UInt64(max(0, clinux_wall_nanoseconds())))
        do throws(AgentError) { try agent.configure(request) } catch { throw GroupAgent.failure(error) }
        for (index, volume) in configuration.volumes.enumerated() {
            let device = "/dev/vd\(Character(UnicodeScalar(UInt8(ascii: "b") + UInt8(truncatingIfNeeded: index))))"
            do throws(AgentError) {
                try agent.mount(
                    MountRequest(device: Text(device), path: Text(volume.mountPoint), fileSystem: "ext4", readOnly: volume.readOnly))
            } catch {
                throw GroupError(
                    .guest, "Cannot mount volume \(volume.file) on \(volume.mountPoint): \(error)",
                    remedy: "A volume holds an ext4 file system; make one with: truncate -s 1G FILE && mkfs.ext4 FILE")
            }
        }
    }

    static func describe(_ outcome: MachineOutcome) -> String {
        switch outcome {
        case .powerOff: "it powered itself off"
        case .reboot: "it asked for a reboot, which ends a group"
        case .panic(let message): "its kernel panicked: \(message)"
        case .failed(let message): "the machine failed: \(message)"
        case .stopped: "it was stopped"
        }
    }
}
