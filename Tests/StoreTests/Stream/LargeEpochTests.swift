import CLinux
import StoreSimulation
import Testing

@testable import Store

/// Epochs whose pages are written while further ones are being looked at.
@Suite struct LargeEpochTests {
    /// Pages in memory for as long as the tests run; the contents of page N are those of page N + `distinct`.
    private struct Pages: @unchecked Sendable {
        // Safety: written before anybody else sees them.
        static let distinct = 2200
        static let count = 2600
        static let shared = Pages()
        let base = UnsafeMutableRawPointer.allocate(byteCount: (count + 1) * StoreFormat.blockBytes, alignment: StoreFormat.blockBytes)

        private init() {
            for page in 0...Self.count {
                let bytes = PageContents.bytes(Self.seed(page))
                UnsafeMutableRawBufferPointer(start: base + page * StoreFormat.blockBytes, count: bytes.count).copyBytes(from: bytes)
            }
        }

        static func seed(_ page: Int) -> UInt64 { UInt64(page % distinct) * 2 + 1 }
    }

    private func commit(_ number: UInt64, to writer: StreamWriter, retained: Bool = true, shift: Int = 0) throws -> EpochStatistics {
        try writer.begin(number)
        for start in stride(from: 0, to: Pages.count, by: 100) {
            let inputs = (start..<start + 100).map { page in
                PageInput(key: PageKey(rawValue: UInt64(page)), bytes: Pages.shared.base + page * StoreFormat.blockBytes + shift)
            }
            try writer.add(inputs, retained: retained)
        }
        return try writer.close(bytes: [UInt8(number)])
    }

    private func check(_ store: Store, _ what: String, shift: Int = 0) throws {
        let reader = try store.checkpoint(stream: "large")
        for page in stride(from: 0, to: Pages.count, by: 37) {
            let start = Pages.shared.base + page * StoreFormat.blockBytes + shift
            let wanted = [UInt8](UnsafeRawBufferPointer(start: start, count: StoreFormat.blockBytes))
            #expect(try PageContents.read(PageKey(rawValue: UInt64(page)), from: reader) == wanted, "\(what), page \(page)")
        }
        let report = try store.scrub()
        #expect(report.findingCount == 0, "\(what): \(report.findings)")
    }

    private func options(_ settleBytes: UInt64 = 64 << 20) -> WriterOptions {
        var options = WriterOptions()
        options.settleBytes = settleBytes
        // Past the cache from the second batch on.
        options.cachedBytes = 1
        return options
    }

    /// Each write of such an epoch finds no room: given again by the same writer it is there, and nothing is lost.
    @Test func anEpochWithoutRoomIsGivenAgain() throws {
        var blocks: UInt64?
        var refusals = 0
        var index = 0
        while true {
            let disk = try CampaignCheck.makeDisk()
            disk.restartTrace(recording: false)
            let store = try Store.open(disk, memory: .alone, indexBytes: 1 << 20)
            let writer = try store.createStream(name: "large", time: 1, options: options())
            // The first time nothing fails.
            if index > 0 { disk.setFaults(FaultPlan(index: index, kind: .partial(ENOSPC), isForEver: false, operations: [.write])) }
            let what = "write \(index)"
            while writer.lastNumber == 0 {
                do { _ = try commit(1, to: writer) } catch let error as StoreError {
                    #expect(error.isNoRoom && !writer.isBroken, "\(what): \(error)")
                    refusals += 1
                    writer.abandon()
                }
            }
            let wasHit = index == 0 || disk.operationCount >= index
            disk.setFaults(nil)
            try writer.flush()
            if index % 3 == 0 { try check(store, what) }
            try writer.finish()
            let found = try store.collect()
            #expect(found.blocksKept == blocks ?? found.blocksKept, "\(what)")
            // At most what had landed before the failure waits for a collection.
            #expect(found.blocksFreed < UInt64(Pages.distinct), "\(what): \(found.blocksFreed) blocks were not given back")
            blocks = found.blocksKept
            if !wasHit { break }
            index += 1
        }
        #expect(refusals >= 4, "only \(refusals) writes were refused")
    }

    @Test(arguments: [1 << 20, 64 << 20] as [UInt64])
    func powerCuts(settleBytes: UInt64) throws {
        let disk = try CampaignCheck.makeDisk()
        let store = try Store.open(disk, memory: .alone, indexBytes: 1 << 20)
        let writer = try store.createStream(name: "large", time: 1, options: options(settleBytes))
        try writer.begin(1)
        try writer.close()
        try writer.flush()
        let start = disk.eventCount
        _ = try commit(2, to: writer)
        try writer.flush()
        let end = disk.eventCount
        var generator = SeededGenerator(seed: settleBytes)
        var whole = 0
        try disk.trace.forEachCut(using: &generator) { cut, loss, image in
            guard cut >= start else { return }
            let what = "cut \(cut), loss \(loss)"
            let store = try Store.open(SimulatedDisk(image), memory: .alone, indexBytes: 1 << 20)
            guard try store.checkpoint(stream: "large").number == 2 else {
                #expect(cut < end, "\(what): lost what was acknowledged")
                return
            }
            whole += 1
            try check(store, what)
        }
        #expect(whole > 0)
    }

    /// On a file the writes really go on meanwhile, past the cache where they are aligned.
    @Test(arguments: [(true, 0), (true, 8), (false, 0)])
    func inAFile(retained: Bool, shift: Int) throws {
        let directory = try TemporaryDirectory()
        let disk = try FileDisk.create("\(directory.path)/disk", byteCount: 40 << 20)
        try Store.create(on: disk, StoreConfiguration(slotCount: 4, identity: StoreIdentity(low: 1, high: 2)))
        let store = try Store.open(disk, memory: .alone, indexBytes: 1 << 20)
        let writer = try store.createStream(name: "large", time: 1, options: options())
        let statistics = try commit(1, to: writer, retained: retained, shift: shift)
        if shift == 0 {
            // Pages that come again are found, wherever the first of them is just now.
            let again = UInt64(Pages.count - Pages.distinct)
            #expect(statistics.newPages == UInt64(Pages.distinct) && statistics.sharedPages == again)
        }
        try writer.flush()
        try check(store, "written", shift: shift)
        // An epoch that nobody closes or abandons: its batches are waited for.
        try writer.begin(2)
        let inputs = (0..<Pages.count).map { page in
            PageInput(key: PageKey(rawValue: UInt64(page + 10_000)), bytes: Pages.shared.base + page * StoreFormat.blockBytes + 16)
        }
        try writer.add(inputs, retained: retained)
        try check(store, "with an epoch open", shift: shift)
        try writer.finish()
        try check(try Store.open(FileDisk.open(disk.name), memory: .alone, indexBytes: 1 << 20), "opened again", shift: shift)
    }
}
