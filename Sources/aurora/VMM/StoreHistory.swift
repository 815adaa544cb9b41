import CLinux
import Groups
import Images
import Linux
import Snapshot
import Store
import Synchronization

/// The stream of a running group in the store: its writer, its backend, and the collection of what nobody needs.
final class StoreHistory: Sendable {
    let access: StoreAccess
    let writer: StreamWriter
    let backend: StoreBackend
    private let collector: SpaceKeeper

    private init(_ access: StoreAccess, _ writer: StreamWriter, _ machine: GroupMachineOfStore) {
        self.access = access
        self.writer = writer
        let contexts = machine.contexts
        let collector = SpaceKeeper(access, writer, machine.environment.configuration.persistence, warn: machine.environment.warn)
        self.collector = collector
        backend = StoreBackend(
            writer,
            StoreBackend.Environment(
                envelope: { try contexts.envelope($0, machine: $1) }, makeRoom: { collector.makeRoom($0) }))
    }

    /// Begins a history with the group's image, or goes on with one from there: memory comes anew.
    static func begin(_ machine: GroupMachineOfStore) throws -> StoreHistory {
        let environment = machine.environment
        let access = try StoreAccess.openOrCreate(environment.storePath)
        let image = try ImageStore(dataPath: CommandContext.data.path).open(try ImageName(environment.configuration.image))
        let base = try ImageImport(access: access, image: image, progress: { _, _ in }).ensure()
        guard try access.hasStream(environment.streamName) else {
            let writer = try access.store.createStream(
                name: environment.streamName, origin: base.reference, time: UInt64(clamping: Timestamp.wallClockNanoseconds()),
                options: options(environment))
            return StoreHistory(access, writer, machine)
        }
        return try beginAgain(machine, access)
    }

    /// Goes on with the group's own history after a time without it: all is given anew, so nothing of before may show through.
    ///
    /// Only a root disk is as it was then, where the guest has not written since it booted.
    private static func beginAgain(_ machine: GroupMachineOfStore, _ access: StoreAccess) throws -> StoreHistory {
        let name = machine.environment.streamName
        let former = try access.store.checkpoint(stream: name, .latest)
        let history = StoreHistory(access, try access.store.writer(for: name, options: options(machine.environment)), machine)
        for map in [0] + machine.disks.volumes.filter(\.isImported).map(\.map) {
            try history.backend.clear(try former.pages(inMap: map).map(\.key))
        }
        return history
    }

    /// Goes on from a checkpoint: of the group's own history, or of another's that this one then begins with.
    static func resume(_ machine: GroupMachineOfStore, from origin: CheckpointReader) throws -> StoreHistory {
        let environment = machine.environment
        let access = try StoreAccess.openOnce(environment.storePath)
        guard origin.streamName == environment.streamName else {
            let writer = try access.store.createStream(
                name: environment.streamName, origin: origin.reference, time: UInt64(clamping: Timestamp.wallClockNanoseconds()),
                options: options(environment))
            // Its first checkpoint has the tables of the origin, which the machine fetches its pages through.
            writer.keep(writer.lastNumber)
            return StoreHistory(access, writer, machine)
        }
        let writer = try access.store.writer(for: environment.streamName, options: options(environment))
        writer.keep(origin.number)
        let history = StoreHistory(access, writer, machine)
        if writer.lastNumber != origin.number { try history.goBack(to: origin) }
        return history
    }

    /// Makes an earlier checkpoint the newest, lastingly: after a crash it is gone on from.
    func goBack(to reader: CheckpointReader) throws(StoreError) {
        var figures = CheckpointFigures(reader.statistics)
        figures?.previous = reader.number
        try writer.goBack(
            to: reader, time: UInt64(clamping: Timestamp.wallClockNanoseconds()), statistics: figures?.encoded ?? reader.statistics)
    }

    /// Goes on with the same writer after the machine was put on another of its checkpoints.
    func again(_ machine: GroupMachineOfStore) -> StoreHistory { StoreHistory(access, writer, machine) }

    /// Ends the writing; the next opening has nothing to recover.
    ///
    /// - Returns: false when that takes longer; it goes on behind everybody's back, and until it is over nobody else writes the history.
    func finish(withinSeconds seconds: Double) -> Bool {
        let done = PromisedAnswer<Bool>()
        let end = { @Sendable [writer] in
            do throws(StoreError) { try writer.finish() } catch { EngineMessage.write("Cannot end the history in good order: \(error)") }
            done.set(true)
        }
        do throws(SystemError) { try DetachedThread.start("history-end", end) } catch { end() }
        return done.wait(seconds: seconds) { false } ?? false
    }

    /// An epoch is durable: looks after the space of the store now and then.
    func maintain() {
        collector.foundRoom()
        collector.look(writtenBytes: backend.counters.writtenBytes)
    }

    /// Why checkpoints wait for room in the store; nil when they do not.
    var waitsForRoom: String? { collector.problem }

    /// Checkpoints that wait for room fail now: the backend is about to be let go.
    func giveUpWaiting() { collector.giveUp() }

    private static func options(_ environment: GroupMachineOfStore.Environment) -> WriterOptions {
        var options =
            switch environment.configuration.persistence?.history ?? .standard {
            case .standard: WriterOptions(retention: .standard)
            case .all: WriterOptions()
            case .latest(let count): WriterOptions(retention: .last(UInt64(clamping: count)))
            }
        // One checkpoint that is kept and read rarely, not a hundred a second.
        if environment.streamName.hasPrefix("function/") { options.compression = .on }
        return options
    }
}

/// Messages of the VMM process about itself: its standard error is the group's engine.log.
enum EngineMessage {
    static func write(_ text: String) { Terminal.writeError("\(Timestamp.now()) \(text)\n") }
}
