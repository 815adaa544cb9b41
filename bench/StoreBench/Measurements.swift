import Glibc
import Store

/// All measurements, one after the other, on one store.
struct Measurements {
    let pageCount: Int
    let checkpoints: UInt64
    private let disk: FileDisk
    private let plain: FileDisk
    private let store: Store
    private let paths: [String]
    private let pages: UnsafeMutableRawBufferPointer
    private static let size = 4096

    private let json: Bool

    init(directory: String, mebibytes: Int, checkpoints: UInt64, json: Bool) throws {
        pageCount = mebibytes * 256
        self.checkpoints = checkpoints
        self.json = json
        paths = ["store", "plain"].map { "\(directory)/aurora-bench-\(getpid())-\($0)" }
        disk = try FileDisk.create(paths[0], byteCount: 32 << 30)
        plain = try FileDisk.create(paths[1], byteCount: UInt64(pageCount * Self.size) + 1 << 20)
        try Store.create(on: disk, StoreConfiguration())
        store = try Store.open(disk, memory: .alone)
        pages = UnsafeMutableRawBufferPointer.allocate(byteCount: pageCount * Self.size, alignment: Self.size)
    }

    func run(ingestOnly: Bool) throws {
        defer {
            for path in paths { unlink(path) }
            pages.deallocate()
        }
        if !json { print("store on \(paths[0]); io_uring: \(disk.ringRefusal ?? "yes"); \(pageCount / 256) MiB") }
        try ingest()
        if ingestOnly { return }
        try lookUps()
        try commits()
        try scattered()
        try opening()
        try index()
        try collection()
    }

    // MARK: bulk

    private static let rounds = 5

    private func bulk(_ round: Int) -> String { "bulk-\(round)" }

    /// The same bytes three ways by turns, in another order each round, so that a disk or host that becomes slower does so for all.
    ///
    /// The device's own speed is what goes past the page cache. What goes through it depends on whether the host of a virtual machine has
    /// memory behind the pages that are to hold it.
    private func ingest() throws {
        var rates: [Way: [Double]] = [:]
        for round in 0..<Self.rounds {
            fill(seed: UInt64(round) << 50)
            let first = round % Way.allCases.count
            for way in Way.allCases[first...] + Way.allCases[..<first] {
                let elapsed = way == .store ? try ingest(round) : try writePlain(round, pastCache: way == .direct)
                rates[way, default: []].append(Double(pageCount * Self.size) / elapsed / 1e9)
            }
        }
        let store = rates[.store] ?? []
        show(
            Line(
                name: "ingest of new pages, durable", unit: "GB/s", samples: store, peer: rates[.direct] ?? [],
                peerName: "sequential write of the device, O_DIRECT", goal: "T1: >= 0.8", isHigherBetter: true))
        show(
            Line(
                name: "  the same beside another peer", unit: "GB/s", samples: store, peer: rates[.cached] ?? [],
                peerName: "sequential write through the cache + fdatasync", isHigherBetter: true))
    }

    private enum Way: CaseIterable { case direct, store, cached }

    private func ingest(_ round: Int) throws -> Double {
        let writer = try store.createStream(name: bulk(round), time: 1)
        let elapsed = try seconds { try epoch(writer, 1) }
        try writer.finish()
        return elapsed
    }

    /// To a file of its own each time: to overwrite one whose pages are in memory is several times faster.
    private func writePlain(_ round: Int, pastCache: Bool) throws -> Double {
        let path = "\(paths[1])-\(round)"
        let file = try FileDisk.create(path, byteCount: UInt64(pageCount * Self.size))
        defer { unlink(path) }
        return try seconds {
            var offset = 0
            while offset < pages.count {
                let count = min(4 << 20, pages.count - offset)
                let parts = [UnsafeRawBufferPointer(rebasing: pages[offset..<offset + count])]
                if pastCache { try file.writePastCache(parts, at: UInt64(offset)) } else { try file.write(parts, at: UInt64(offset)) }
                offset += count
            }
            try file.flush()
        }
    }

    /// What the last round wrote is in `pages`.
    private func lookUps() throws {
        let name = bulk(Self.rounds - 1)
        let writer = try store.writer(for: name)
        let again = try seconds { try epoch(writer, 2) }
        show("the same pages again (unchanged)", again / Double(pageCount) * 1e6, "us/page")
        let other = try store.createStream(name: "shared", time: 1)
        let shared = try seconds { try epoch(other, 1) }
        show("the same pages in another stream (found and compared)", shared / Double(pageCount) * 1e6, "us/page")
        let sums = keys(20000).map { key in
            let first = Int(key.rawValue) * Self.size
            return Checksum(of: UnsafeRawBufferPointer(rebasing: pages[first..<first + Self.size]))
        }
        var found = 0
        let asking = try seconds { for sum in sums where store.mayHold(sum) { found += 1 } }
        show("look-up in the index, of pages it knows", asking / Double(sums.count) * 1e6, "us", goal: "T1: <= 1")
        show("  share that it knew", Double(found) / Double(sums.count) * 100, "%")
        var reader = try store.checkpoint(stream: name)
        let cold = try seconds { try look(reader) }
        show("look-up of a page's place, first", cold / 100_000 * 1e6, "us")
        reader = try store.checkpoint(stream: name)
        show("look-up of a page's place, again", try seconds { try look(reader) } / 100_000 * 1e6, "us", goal: "T1: <= 1")
        let page = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.size, alignment: Self.size)
        defer { page.deallocate() }
        let reading = try seconds { for key in keys(20000) { try reader.read(key, into: page) } }
        show("page read and checked", reading / 20000 * 1e6, "us")
        try writer.finish()
        try other.finish()
    }

    private func keys(_ count: Int) -> [PageKey] {
        (0..<count).map { PageKey(rawValue: UInt64($0 &* 7919 % pageCount)) }
    }

    private func look(_ reader: CheckpointReader) throws {
        for key in keys(100_000) { _ = try reader.locate(key) }
    }

    private func epoch(_ writer: StreamWriter, _ number: UInt64) throws {
        try writer.begin(number)
        var first = 0
        while first < pageCount {
            let end = min(first + 2048, pageCount)
            try writer.add((first..<end).compactMap { input(UInt64($0), $0) }, retained: true)
            first = end
        }
        try writer.close(state: UnsafeRawBufferPointer(start: nil, count: 0), time: number)
        try writer.flush()
    }

    private func input(_ page: UInt64, _ index: Int) -> PageInput? {
        pages.baseAddress.map { PageInput(key: PageKey(rawValue: page), bytes: $0 + index * Self.size) }
    }

    // MARK: commits

    private func commits() throws {
        let writer = try store.createStream(name: "small", time: 1)
        let rounds = 400
        var plainTimes: [Double] = []
        var storeTimes: [Double] = []
        var closeTimes: [Double] = []
        for round in 1...rounds {
            fill(seed: UInt64(round) << 32, count: 1)
            plainTimes.append(
                try seconds {
                    try plain.write([UnsafeRawBufferPointer(rebasing: pages[..<Self.size])], at: UInt64(round * Self.size))
                    try plain.flush()
                })
            var closing = 0.0
            storeTimes.append(
                try seconds {
                    closing = try seconds {
                        try writer.begin(UInt64(round))
                        try writer.add([input(UInt64(round % 64), 0)].compactMap { $0 }, retained: true)
                        try writer.close(state: UnsafeRawBufferPointer(start: nil, count: 0), time: 1)
                    }
                    try writer.flush()
                })
            closeTimes.append(closing)
        }
        show(
            Line(
                name: "commit of one page, durable", unit: "us", samples: storeTimes.map { $0 * 1e6 }, peer: plainTimes.map { $0 * 1e6 },
                peerName: "4 KiB write + fdatasync", goal: "D1: <= 1.3"))
        show(Line(name: "  of that before the flush", unit: "us", samples: closeTimes.map { $0 * 1e6 }))
        try writer.finish()
        try store.removeStream("small")
    }

    /// 500 pages an epoch, at random places of a full map.
    private func scattered() throws {
        let writer = try store.writer(for: bulk(0))
        let epochs = 512
        var pageBytes: UInt64 = 0
        var written: UInt64 = 0
        var merged: UInt64 = 0
        var times: [Double] = []
        var random: UInt64 = 42
        for epoch in 0..<epochs {
            fill(seed: UInt64(epoch) << 40, count: 500)
            var places: Set<UInt64> = []
            while places.count < 500 {
                random = random &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                places.insert(random >> 20 % UInt64(pageCount))
            }
            let inputs = places.sorted().enumerated().compactMap { input($1, $0) }
            times.append(
                try seconds {
                    try writer.begin(writer.lastNumber + 1)
                    try writer.add(inputs, retained: true)
                    let result = try writer.close(state: UnsafeRawBufferPointer(rebasing: pages[..<8192]), time: 1)
                    pageBytes += result.statistics.newPageBytes
                    written += result.statistics.writtenBytes
                    merged += result.statistics.mergedEntries
                })
        }
        try writer.flush()
        let dirty = Double(epochs * 500)
        show(Line(name: "epoch of 500 scattered pages, before its flush", unit: "us", samples: times.map { $0 * 1e6 }))
        show("  bytes written a byte of new pages", Double(written) / Double(pageBytes), "x")
        show("  metadata, 8 KiB of state included", Double(written - pageBytes) / dirty, "bytes/page")
        show("  entries merged", Double(merged) / dirty, "/page")
        try writer.finish()
    }

    // MARK: opening

    private func opening() throws {
        let empty = UnsafeRawBufferPointer(start: nil, count: 0)
        do {
            let writer = try store.createStream(name: "long", time: 1)
            let making = try seconds {
                for number in 1...checkpoints {
                    fill(seed: number << 20, count: 1)
                    try writer.begin(number)
                    try writer.add([input(number % 1000, 0)].compactMap { $0 }, retained: true)
                    try writer.close(state: empty, time: number)
                }
                try writer.flush()
            }
            show("checkpoint of one page, not flushed", making / Double(checkpoints) * 1e6, "us")
        }
        // Its writer has gone without finishing: as after a crash.
        let reading = try (0..<20).map { _ in
            try seconds { _ = try Store.open(disk, memory: .alone).checkpoint(stream: "long") } * 1e3
        }
        show(
            Line(
                name: "open after a crash, find the latest of \(checkpoints) checkpoints", unit: "ms", samples: reading, goal: "T1: <= 50"))
        let fresh = try Store.open(disk, memory: .alone)
        show("  and go on writing", try seconds { _ = try fresh.writer(for: "long") } * 1e3, "ms", goal: "T1: <= 50")
        show("  and list them all", try seconds { _ = try fresh.history("long") } * 1e3, "ms")
    }

    // MARK: index and scrub

    /// Random checksums: each look-up misses the processor's caches, as those of new pages do.
    private func index() throws {
        let count = 1_000_000
        var random: UInt64 = 7
        var found = 0
        let passed = try seconds {
            for _ in 0..<count {
                random = random &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                if store.mayHold(Checksum(low: random, high: random << 32 | random >> 32)) { found += 1 }
            }
        }
        show("look-up in the index, of pages it does not know (\(found) by chance)", passed / Double(count) * 1e6, "us", goal: "T1: <= 1")
        var bytes = 0.0
        let scrubbing = try seconds {
            let report = try store.scrub()
            bytes = Double(report.bytes)
            if !report.isClean { throw BenchError(description: "the scrub found damage: \(report.findings)") }
        }
        show("scrub", bytes / scrubbing / 1e9, "GB/s", isHigherBetter: true)
        show("verify, the structure only", try seconds { _ = try store.verify() } * 1e3, "ms")
    }

    // MARK: collection

    /// A whole stream is removed, then another collection finds nothing to free.
    private func collection() throws {
        try store.removeStream(bulk(1))
        for what in ["with a stream to free", "with nothing to free"] {
            var kept = 0.0
            var freed = 0.0
            let elapsed = try seconds {
                let result = try store.collect()
                kept = Double(result.blocksKept)
                freed = Double(result.blocksFreed)
            }
            show("collection \(what)", elapsed * 1e3, "ms")
            show("  blocks of 4 KiB looked at", (kept + freed) / elapsed / 1e6, "million/s", isHigherBetter: true)
            show("  freed", freed * 4096 / elapsed / 1e9, "GB/s", isHigherBetter: true)
        }
    }

    // MARK: helpers

    private func fill(seed: UInt64, count: Int? = nil) {
        let words = pages.bindMemory(to: UInt64.self)
        for index in 0..<(count ?? pageCount) * Self.size / 8 {
            words[index] = (seed &+ UInt64(index)) &* 0x9E37_79B9_7F4A_7C15
        }
    }

    private func seconds(_ body: () throws -> Void) throws -> Double {
        let clock = ContinuousClock()
        let start = clock.now
        try body()
        let passed = start.duration(to: clock.now)
        return Double(passed.components.seconds) + Double(passed.components.attoseconds) / 1e18
    }

    private func show(_ name: String, _ value: Double, _ unit: String, goal: String = "", isHigherBetter: Bool = false) {
        show(Line(name: name, unit: unit, samples: [value], goal: goal, isHigherBetter: isHigherBetter))
    }

    private func show(_ line: Line) { print(json ? line.json : line.text) }
}

/// Why a measurement means nothing.
private struct BenchError: Error, CustomStringConvertible {
    let description: String
}
