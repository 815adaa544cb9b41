import Synchronization
internal import CLinux
import Linux

extension Machine {
    /// Puts a paused machine back to where it was saved, at a cost by the pages that differ; it stays paused.
    ///
    /// Processor, interrupts, timers and devices are as after a restore: the guest's clock goes on from the saved time, and
    /// connections of the host to the guest (vsock, and so the agent, attached terminals and published ports) are reset.
    /// Disks must hold what they held then. Replaced pages count as written, whoever tracks writes.
    ///
    /// - Parameters:
    ///   - state: what `save()` of this machine, or of one it was restored from, answered.
    ///   - pages: every page whose contents may differ from the saved ones, numbered as `PageSource` does, best in rising order.
    ///   - source: the saved contents.
    /// - Throws: `MachineError.configuration` for a machine that is not paused and `MachineError.state` for a state that is not
    ///   this machine's, which change nothing; `MachineError.memory` for a page that cannot be had: another state can be loaded
    ///   then, with these
    ///   pages and those among them, and the machine ends when it is let go before; `MachineError.state` for a part that is refused: then
    ///   it can only be stopped.
    func load(_ state: MachineState, replacing pages: some Sequence<Int>, from source: any PageSource) throws(MachineError) {
        guard isPaused, end == nil else { throw .configuration("only a machine at rest can be rolled back") }
        let target = try target(for: state)
        keeper.hasMixedMemory.store(true, ordering: .releasing)
        do throws(PageSourceError) { try memory.replace(pages, from: source) } catch { throw .memory("\(error)") }
        do throws(MachineError) {
            try shadowPages.drop()
            try target.load(state)
        } catch {
            runner.condemn("The rollback failed: \(error)")
            throw error
        }
        keeper.hasMixedMemory.store(false, ordering: .releasing)
    }

    /// Refuses a state that this machine cannot be put back to, as `load` would, while it runs on.
    ///
    /// - Throws: `MachineError.state` with the reason: another processor, mode or memory.
    public func check(_ state: MachineState) throws(MachineError) { _ = try target(for: state) }

    private func target(for state: MachineState) throws(MachineError) -> StateTarget {
        try state.checkMemory()
        let target = StateTarget(
            mode: mode, virtualMachine: virtualMachine, cpu: runner.cpu, platform: platform, memory: memory, devices: devices)
        try target.check(state)
        return target
    }
}

extension GuestMemory {
    /// Pages read from a source at once, at most.
    private static let runMax = 256

    /// Overwrites pages while nothing runs, and marks them dirty.
    ///
    /// - Throws: `PageSourceError` for a page that is not guest memory or cannot be read; some are overwritten then.
    func replace(_ pages: some Sequence<Int>, from source: any PageSource) throws(PageSourceError) {
        var run = 0..<0
        for page in pages {
            if page == run.upperBound, run.count > 0, run.count < GuestMemory.runMax {
                run = run.lowerBound..<page + 1
            } else {
                try replace(run, from: source)
                guard page >= 0, page < pageCount else { throw PageSourceError(page: page, reason: "the machine has no such page") }
                run = page..<page + 1
            }
        }
        try replace(run, from: source)
    }

    /// Overwrites neighbours, piece by piece where they lie in several regions or some are zeros.
    private func replace(_ run: Range<Int>, from source: any PageSource) throws(PageSourceError) {
        var page = run.lowerBound
        while page < run.upperBound {
            guard let place = locate(page: page) else { throw PageSourceError(page: page, reason: "the machine has no such page") }
            let region = regions[place.region]
            let isStored = source.has(page)
            let limit = min(run.upperBound, region.firstPage + region.count / pageBytes)
            var end = page + 1
            while end < limit, source.has(end) == isStored { end += 1 }
            // Pages that were never fetched must not be fetched later: they are there from now on.
            try lazy?.forget(page..<end)
            let count = (end - page) * pageBytes
            let bytes = UnsafeMutableRawBufferPointer(start: region.mapping.base + place.page * pageBytes, count: count)
            if isStored {
                try source.readToGoOn(page: page, count: end - page, into: bytes)
            } else {
                bytes.initializeMemory(as: UInt8.self, repeating: 0)
            }
            region.dirty.mark(offset: place.page * pageBytes, count: count)
            page = end
        }
    }
}
