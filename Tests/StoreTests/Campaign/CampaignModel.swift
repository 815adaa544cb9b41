import CLinux
import StoreSimulation
import Testing

@testable import Store

/// What a campaign did to a store, what was acknowledged when, and what must therefore be found after a fault.
struct CampaignModel {
    /// What somebody was told is durable.
    struct Acknowledged {
        /// Events of the disk so far.
        var event = 0
        /// Numbers of checkpoints by stream.
        var checkpoints: [String: Set<UInt64>] = [:]
    }

    /// Everything that was ever closed: the seed of each page, by stream and number.
    ///
    /// Numbers are never used twice.
    var closed: [String: [UInt64: [UInt64: UInt64]]] = [:]
    /// In the order of time.
    var history: [Acknowledged] = [Acknowledged()]

    mutating func acknowledge(_ event: Int, _ change: (inout [String: Set<UInt64>]) -> Void) {
        var next = history[history.count - 1]
        next.event = event
        change(&next.checkpoints)
        history.append(next)
    }

    /// What must be there, and what may be, after a cut at an event: an operation under way may have taken effect or not.
    func bounds(at event: Int) -> (must: [String: Set<UInt64>], may: [String: Set<UInt64>]) {
        let index = history.lastIndex { $0.event <= event } ?? 0
        let before = history[index].checkpoints
        let after = index + 1 < history.count ? history[index + 1].checkpoints : before
        var must: [String: Set<UInt64>] = [:]
        var may = before.merging(after) { $0.union($1) }
        for (name, numbers) in before { if let later = after[name] { must[name] = numbers.intersection(later) } }
        // Closed and not flushed: may have arrived all the same.
        for name in may.keys {
            let last = must[name]?.max() ?? 0
            may[name, default: []].formUnion(Set((closed[name] ?? [:]).keys.filter { $0 > last }))
        }
        return (must, may)
    }
}

/// Compares a store with a model.
enum CampaignCheck {
    static let pages: UInt64 = 16

    /// A disk with an empty store of eight segments.
    static func makeDisk() throws -> SimulatedDisk {
        let disk = SimulatedDisk(byteCount: 40 << 20)
        try Store.create(on: disk, StoreConfiguration(slotCount: 8, identity: StoreIdentity(low: 3, high: 4)))
        disk.restartTrace()
        return disk
    }

    /// What is wrong; empty when all is well.
    static func compare(_ store: Store, _ model: CampaignModel, at event: Int, thoroughly: Bool = true) throws -> [String] {
        var problems: [String] = []
        let report = try store.scrub()
        if report.findingCount > 0 { problems.append("scrub: \(report.findings)") }
        let (must, may) = model.bounds(at: event)
        var found: [String: Set<UInt64>] = [:]
        for slot in try store.ground.slots() {
            let name = slot.record.name
            found[name] = Set(try store.history(name).map(\.number))
            if may[name] == nil { problems.append("stream \(name) should not be there") }
        }
        for (name, numbers) in must where !numbers.isSubset(of: found[name] ?? []) {
            problems.append("\(name) lost \(numbers.subtracting(found[name] ?? []).sorted())")
        }
        for (name, numbers) in found {
            if let allowed = may[name], !numbers.isSubset(of: allowed) {
                problems.append("\(name) has \(numbers.subtracting(allowed).sorted()) again")
            }
            for number in thoroughly ? numbers.sorted() : [numbers.max()].compactMap({ $0 }) {
                if let problem = try compare(store, name, number, model.closed[name]?[number]) { problems.append(problem) }
            }
        }
        return problems
    }

    static func compare(_ store: Store, _ name: String, _ number: UInt64, _ wanted: [UInt64: UInt64]?) throws(StoreError) -> String? {
        guard let wanted else { return "\(name) has a checkpoint \(number) that was never closed" }
        let reader = try store.checkpoint(stream: name, .number(number))
        guard try reader.state() == state(number) else { return "the state of \(name) \(number) differs" }
        let page = UnsafeMutableRawBufferPointer.allocate(byteCount: 4096, alignment: 4096)
        defer { page.deallocate() }
        for index in 0..<pages {
            guard let key = PageKey(map: 0, page: index) else { continue }
            try reader.read(key, into: page)
            let isEqual = contents(wanted[index] ?? 0).withUnsafeBytes { expected in
                guard let one = expected.baseAddress, let other = page.baseAddress else { return false }
                return memcmp(one, other, 4096) == 0
            }
            if !isEqual { return "page \(index) of \(name) \(number) differs" }
        }
        return nil
    }

    static func state(_ number: UInt64) -> [UInt8] { [UInt8](repeating: UInt8(truncatingIfNeeded: number), count: 100) }

    /// A page whose bytes follow from a seed; 0 is a page of zeros.
    static func contents(_ seed: UInt64) -> [UInt8] {
        var page = [UInt8](repeating: 0, count: 4096)
        guard seed != 0 else { return page }
        var generator = SeededGenerator(seed: seed)
        page.withUnsafeMutableBytes { bytes in
            // Even seeds compress well.
            let end = seed % 2 == 0 ? 512 : 4096
            for offset in stride(from: 0, to: end, by: 8) { bytes.storeBytes(of: generator.next(), toByteOffset: offset, as: UInt64.self) }
        }
        return page
    }
}
