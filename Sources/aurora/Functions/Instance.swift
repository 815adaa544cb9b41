import AgentProtocol
import AuroraVMM
import CLinux
import Functions
import Linux
import Snapshot
import Synchronization

/// A machine made ahead for a runtime, and the function that is restored into it.
final class Instance: Sendable {
    private let runtime: InstanceRuntime
    private let memory: LaunchMemory
    private let disk: LaunchDisk
    private let output = OutputWatch()
    /// While it waits for its next request.
    private let resting = Mutex<RestingMachine?>(nil)
    /// The machine.
    let machine: Machine

    /// When the guest's console printed first; zero: not yet.
    var firstOutput: Int64 { output.first }

    /// Bytes that an instance may have written to its disk at once, unless its function has more room there.
    static let scratchBytesMax = 1 << 30

    /// Makes the machine; nothing of a function is known yet.
    init(_ runtime: InstanceRuntime) throws {
        launches = Mutex(runtime.launches)
        // Nobody but `launches` keeps their files open.
        var own = runtime
        own.launches = PreparedLaunches()
        self.runtime = own
        memory = try LaunchMemory(runtime.image, state: runtime.state)
        let directory = runtime.launchPath
        disk = try LaunchDisk(runtime.image) { () throws(SystemError) in try ScratchFile(in: directory) }
        disk.limitScratch(bytes: Instance.scratchBytesMax)
        let output = output
        machine = try Machine(runtime.configuration(disk, console: { _ in output.note() }), aheadOf: runtime.state, memory: memory.mappings)
    }

    /// Closes a launch image that is going to be removed, or all but the one that runs.
    func forget(_ digest: String? = nil) {
        launches.withLock { launches in
            if let digest { launches.forget(digest) } else { launches = PreparedLaunches() }
        }
    }

    /// Gives a function the room on its disk that it was promised.
    func limitScratch(bytes: Int) { disk.limitScratch(bytes: bytes) }

    /// Goes through a restore of the runtime's own state, so that the real one finds code and data at hand.
    func rehearse() throws {
        try machine.rest().begin(runtime.state)
        let sample = InstanceMessages.encode(InstanceRequest(.restore, launch: runtime.image.manifest.digest)) ?? []
        _ = InstanceMessages.decode(sample[...], as: InstanceRequest.self)
        var report = InstanceReport(.running)
        report.times = LaunchTimes()
        _ = InstanceMessages.encode(report)
    }

    /// Gives the machine a function's memory and disk; what `restore` does otherwise.
    ///
    /// - Throws: what failed; the machine is of no use then.
    func bind(_ digest: String, populates: Bool, isAhead: Bool = true, times: inout LaunchTimes) throws {
        guard bound.withLock({ $0 }) == nil else { throw LaunchError.unsuitable("the machine is bound to a function already") }
        var clock = clinux_clock_ns(CLOCK_MONOTONIC)
        func lap() -> Int64 {
            let now = clinux_clock_ns(CLOCK_MONOTONIC)
            defer { clock = now }
            return now - clock
        }
        let isRuntime = digest == runtime.image.manifest.digest
        let launch = isRuntime ? runtime.own : try launches.withLock { $0[digest] } ?? runtime.read(digest)
        times.open += lap()
        if !isRuntime {
            try memory.bind(launch.image)
            try disk.bind(launch.image)
        }
        // What is touched is to be told exactly, as far as this kernel can.
        let isWatched = launch.workingSet == nil || !populates
        if isWatched { singleFaults.withLock { $0 = try? SingleFaults(memory.mappings) } }
        times.map += lap()
        var isPopulated = false
        if populates, let set = launch.workingSet {
            // Somebody waits: what is not in memory is read while the guest runs already.
            isPopulated = isAhead || memory.isInMemory(set)
            if isPopulated { memory.populate(set, writtenOnly: !isAhead) } else { unread.withLock { $0 = set } }
        }
        times.populate += lap()
        var addresses = 0
        if isPopulated, isAhead, let set = launch.workingSet {
            // Without it the guest's first instructions fault, and that is all.
            let uses = set.uses(pages: machine.memory.pageCount)
            addresses = (try? machine.rest().touchAhead(launch.state, roots: set.addressSpaces, uses: uses)) ?? 0
        }
        times.touch += lap()
        bound.withLock {
            $0 = Bound(digest: digest, launch: launch, isPopulated: isPopulated, isWatched: isWatched, addresses: addresses)
        }
    }

    /// Restores a function and lets it run.
    ///
    /// - Throws: what failed; the machine is of no use then.
    func restore(_ digest: String, populates: Bool, channel: consuming OwnedDescriptor?, port: UInt32, received: Int64) throws
        -> LaunchTimes
    {
        var times = LaunchTimes()
        times.received = received
        if bound.withLock({ $0?.digest }) != digest { try bind(digest, populates: populates, isAhead: false, times: &times) }
        guard let launch = bound.withLock({ $0 })?.launch else { throw LaunchError.missing(digest) }
        var clock = clinux_clock_ns(CLOCK_MONOTONIC)
        try machine.rest().begin(launch.state)
        times.state = clinux_clock_ns(CLOCK_MONOTONIC) - clock
        clock += times.state
        if let channel { try machine.lead(channel, toVsock: port) }
        output.begin()
        machine.start()
        times.resume = clinux_clock_ns(CLOCK_MONOTONIC) - clock
        if let set = unread.withLock({ $0.take() }) { memory.prefetch(set) }
        return times
    }

    /// Keeps the guest at rest until `resume()`; idempotent.
    ///
    /// One that does not come to rest has failed, which its end tells.
    func pause() { resting.withLock { if $0 == nil { $0 = try? machine.rest() } } }

    /// Takes `pause()` back.
    func resume() { resting.withLock { $0 = nil } }

    /// Compares the touched pages with the working set there is, and keeps them when there is none or it has drifted.
    ///
    /// - Throws: `LaunchError`.
    func record() throws -> WorkingSetFigures {
        guard let bound = bound.withLock({ $0 }) else { throw LaunchError.unsuitable("nothing was restored yet") }
        let touched = try touched()
        var figures = WorkingSetFigures()
        figures.touched = touched.pageCount
        figures.written = touched.writtenCount
        if let set = bound.launch.workingSet {
            figures.populated = set.pageCount
            figures.hits = set.common(with: touched)
            // Otherwise what the kernel mapped along, or ahead, would count.
            guard bound.isWatched, set.hasDrifted(from: touched) else { return figures }
        }
        let image = bound.launch.image
        try image.keep(touched.with(addressSpaces: try addressSpaces(of: image)))
        return figures
    }

    /// The pages that were touched so far; the guest stands still meanwhile.
    private func touched() throws -> WorkingSet {
        let resting = try machine.rest()
        singleFaults.withLock { $0 = nil }
        let touched = try memory.touched()
        resting.resume()
        return touched
    }

    /// The guest-physical addresses of the top page tables in a launch image.
    private func addressSpaces(of image: LaunchImage) throws -> [UInt64] {
        let pages = try image.pages(base: runtime.image) { Machine.isTopTable($0) }
        return pages.compactMap { page in
            var first = 0
            for extent in runtime.state.memory {
                let count = extent.count / pageBytes
                if page < first + count { return extent.start.rawValue + UInt64((page - first) * pageBytes) }
                first += count
            }
            return nil
        }
    }

    /// What was mapped ahead.
    var populated: WorkingSetFigures {
        var figures = WorkingSetFigures()
        guard let bound = bound.withLock({ $0 }) else { return figures }
        figures.populated = bound.isPopulated ? bound.launch.workingSet?.pageCount ?? 0 : 0
        figures.addresses = bound.addresses
        return figures
    }

    private struct Bound {
        let digest: String
        let launch: PreparedLaunch
        let isPopulated: Bool
        /// Whether the pages that are touched are to be recorded.
        let isWatched: Bool
        /// What KVM was shown ahead.
        let addresses: Int
    }
    /// Functions' launch images that its host had read.
    private let launches: Mutex<PreparedLaunches>
    private let bound = Mutex<Bound?>(nil)
    /// While each page is mapped by itself.
    private let singleFaults = Mutex<SingleFaults?>(nil)
    /// What has to be read from the disk when the guest runs.
    private let unread = Mutex<WorkingSet?>(nil)
}

/// Notes when a guest printed first.
final class OutputWatch: Sendable {
    private let time = Atomic<Int64>(-1)

    /// From now on output counts.
    func begin() { time.store(0, ordering: .releasing) }

    /// Something was printed.
    func note() {
        if time.load(ordering: .relaxed) == 0 { time.store(clinux_clock_ns(CLOCK_MONOTONIC), ordering: .releasing) }
    }

    /// When it printed first; zero: not yet.
    var first: Int64 { max(0, time.load(ordering: .acquiring)) }
}
