import StoreSimulation
import Testing

@testable import Store

/// A fixed sequence of everything a writer does, whose outcome at every point is known.
struct StreamScript {
    static let epochs: UInt64 = 18

    /// What is known to be durable while it runs.
    struct Progress {
        /// The newest durable number of the first stream; nil before the stream is there.
        var durable: UInt64?
        /// Whether the clone is there, for sure.
        var hasClone = false
        /// Whether checkpoint 2 is named, and 3 is dropped, for sure.
        var isNamed = false
        var isDropped = false
        /// The newest number that was begun.
        var attempted: UInt64 = 0
    }

    static func changes(_ number: UInt64) -> [(key: PageKey, seed: UInt64)] {
        (UInt64(0)..<6).map { index in
            let key = PageKey(rawValue: (number * 7 + index * 5) % 40)
            return (key, (number + index) % 7 == 0 ? 0 : number * 100 + index / 2)
        }
    }

    static func state(_ number: UInt64) -> [UInt8] { [UInt8](repeating: UInt8(truncatingIfNeeded: number), count: 5000) }

    /// All pages as they are at a checkpoint.
    static func pages(_ number: UInt64) -> [PageKey: UInt64] {
        var pages: [PageKey: UInt64] = [:]
        for past in 0...number where past > 0 { for change in changes(past) { pages[change.key] = change.seed } }
        return pages.filter { $0.value != 0 }
    }

    static func run(_ store: Store, _ progress: inout Progress, note: (Progress) -> Void = { _ in }) throws {
        let writer = try store.createStream(name: "first", time: 1)
        progress.durable = 0
        note(progress)
        for number in 1...epochs {
            progress.attempted = number
            try writer.begin(number)
            try PageContents.add(changes(number), to: writer)
            try writer.close(bytes: state(number), time: number)
            if number % 3 == 0 { progress.durable = try writer.flush() }
            note(progress)
            if number == 7 {
                try writer.name(2, "two")
                progress.durable = number
                progress.isNamed = true
                note(progress)
                try writer.drop([3])
                progress.isDropped = true
                note(progress)
            }
            if number == 10 {
                let origin = CheckpointReference(stream: writer.identity, number: 9)
                let clone = try store.createStream(name: "clone", origin: origin, time: 1)
                progress.hasClone = true
                note(progress)
                try clone.begin(10)
                try PageContents.add(changes(10), to: clone)
                try clone.close(bytes: state(10), time: 10)
            }
        }
        try writer.finish()
        progress.durable = epochs
        note(progress)
    }

    /// Whether what is there is what must be: everything acknowledged, and nothing half done.
    static func check(_ store: Store, _ progress: Progress, _ comment: Comment) throws {
        let names = try store.streams().map(\.name)
        guard let durable = progress.durable else {
            #expect(names == [] || names == ["first"], comment)
            return
        }
        #expect(names.contains("first"), comment)
        let history = try store.history("first")
        let latest = history.last?.number ?? 0
        #expect(latest >= durable && latest <= progress.attempted, "\(latest) of \(durable)...\(progress.attempted), \(comment)")
        let dropped = !history.contains { $0.number == 3 } && latest >= 3
        if progress.isDropped { #expect(dropped, comment) }
        #expect(history.map(\.number) == (1...epochs).filter { $0 <= latest && !($0 == 3 && dropped) }, comment)
        if progress.isNamed { #expect(try store.checkpoint(stream: "first", .name("two")).number == 2, comment) }
        for entry in history { try check(store, "first", entry.number, comment) }
        guard names.contains("clone") else {
            #expect(!progress.hasClone, comment)
            return
        }
        for entry in try store.history("clone") { try check(store, "clone", entry.number, comment) }
    }

    static func check(_ store: Store, _ stream: String, _ number: UInt64, _ comment: Comment) throws {
        let reader = try store.checkpoint(stream: stream, .number(number))
        #expect(try reader.state() == state(number), comment)
        let wanted = pages(number)
        #expect(try reader.pages(inMap: 0).map(\.key) == wanted.keys.sorted(), comment)
        for (key, seed) in wanted { #expect(try PageContents.read(key, from: reader) == PageContents.bytes(seed), comment) }
    }
}
