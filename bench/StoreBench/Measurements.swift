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

    init(directory: String, mebibytes: Int, checkpoints: UInt64) throws {
        pageCount = mebibytes * 256
        self.checkpoints = checkpoints
        paths = ["store", "plain"].map { "\(directory)/aurora-bench-\(getpid())-\($0)" }
        disk = try FileDisk.create(paths[0], byteCount: 32 << 30)
        plain = try FileDisk.create(paths[1], byteCount: UInt64(pageCount * Self.size) + 1 << 20)
        try Store.create(on: disk, StoreConfiguration())
        store = try Store.open(disk, memory: .alone)
        pages = UnsafeMutableRawBufferPointer.allocate(byteCount: pageCount * Self.size, alignment: Self.size)
    }

    func run() throws {
        defer {
            for path in paths { unlink(path) }
            pages.deallocate()
        }
        print("store on \(paths[0]); io_uring: \(disk.ringRefusal ?? "yes"); \(pageCount / 256) MiB")
        fill(seed: 1)
        try ingest()
        try commits()
        try scattered()
        try opening()
    }

    // MARK: bulk

    private func ingest() throws {
        let bytes = Double(pageCount * Self.size)
        let raw = try seconds {
            var offset = 0
            while offset < pages.count {
                let count = min(4 << 20, pages.count - offset)
                try plain.write([UnsafeRawBufferPointer(rebasing: pages[offset..<offset + count])], at: UInt64(offset))
                offset += count
            }
            try plain.flush()
        }
        show("plain sequential write + fdatasync", bytes / raw / 1e9, "GB/s")
        let writer = try store.createStream(name: "bulk", time: 1)
        let fresh = try seconds { try epoch(writer, 1) }
        show("store ingest, new pages", bytes / fresh / 1e9, "GB/s", note: "\(Int(raw / fresh * 100)) % of plain")
        let again = try seconds { try epoch(writer, 2) }
        show("the same pages again (unchanged)", again / Double(pageCount) * 1e6, "us/page")
        let other = try store.createStream(name: "shared", time: 1)
        let shared = try seconds { try epoch(other, 1) }
        show("the same pages in another stream (shared)", shared / Double(pageCount) * 1e6, "us/page")
        var reader = try store.checkpoint(stream: "bulk")
        let cold = try seconds { try look(reader) }
        show("look-up of a page's place, first", cold / 100_000 * 1e6, "us")
        reader = try store.checkpoint(stream: "bulk")
        show("look-up of a page's place, again", try seconds { try look(reader) } / 100_000 * 1e6, "us")
        let page = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.size, alignment: Self.size)
        defer { page.deallocate() }
        let reading = try seconds { for key in keys(20000) { try reader.read(key, into: page) } }
        show("page read and checked", reading / 20000 * 1e6, "us")
        try writer.finish()
        try other.finish()
        try store.removeStream("shared")
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
        show("4 KiB plain write + fdatasync, median", median(plainTimes) * 1e6, "us")
        show("commit of one page, median", median(storeTimes) * 1e6, "us", note: ratio(storeTimes, plainTimes))
        show("  of that before the flush", median(closeTimes) * 1e6, "us")
        try writer.finish()
        try store.removeStream("small")
    }

    private func ratio(_ one: [Double], _ other: [Double]) -> String {
        let ratio = Int(median(one) / median(other) * 100)
        return "\(ratio / 100).\(ratio % 100 / 10)\(ratio % 10) x plain"
    }

    /// 500 pages an epoch, at random places of a full map.
    private func scattered() throws {
        let writer = try store.writer(for: "bulk")
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
        show("epoch of 500 scattered pages, before its flush, median", median(times) * 1e6, "us")
        show("  the slowest", (times.max() ?? 0) * 1e6, "us")
        show("metadata, 8 KiB of state included", Double(written - pageBytes) / dirty, "bytes/dirty page")
        show("entries merged", Double(merged) / dirty, "/dirty page")
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
        let fresh = try Store.open(disk, memory: .alone)
        show("opening after a crash, \(checkpoints) checkpoints", try seconds { _ = try fresh.writer(for: "long") } * 1e3, "ms")
        show("listing them", try seconds { _ = try fresh.history("long") } * 1e3, "ms")
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

    private func median(_ values: [Double]) -> Double { values.sorted()[values.count / 2] }

    private func show(_ what: String, _ value: Double, _ unit: String, note: String = "") {
        let digits = value < 10 ? 100.0 : value < 100 ? 10 : 1
        let rounded = (value * digits).rounded() / digits
        let padded = what + String(repeating: " ", count: max(1, 56 - what.count))
        print("\(padded)\(rounded) \(unit)\(note.isEmpty ? "" : "  (\(note))")")
    }
}
