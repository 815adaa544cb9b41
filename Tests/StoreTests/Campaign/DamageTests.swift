import StoreSimulation
import Testing

@testable import Store

/// Damaged bytes: whatever is read is right, or there is an error that says what is damaged.
@Suite struct DamageTests {
    /// A store with merged tables, a clone, dropped checkpoints and a collection behind it; nobody writes.
    private static func makeStore() throws -> (image: DiskImage, earlier: DiskImage, model: CampaignModel) {
        let disk = try CampaignCheck.makeDisk()
        let run = try CampaignRun(on: disk, compression: .on)
        try run.create("one")
        for number in 1...6 as ClosedRange<UInt64> { try run.commit("one", number, pages: [number, 0], salt: number) }
        let earlier = disk.image
        try run.commit("one", 8, pages: [1, 2], salt: 20)
        try run.create("two", from: ("one", 8))
        try run.commit("two", 9, pages: [3], salt: 21)
        try run.drop("one", [1, 2, 3, 4])
        try run.finish("one")
        try run.finish("two")
        try run.collect()
        return (disk.image, earlier, run.model)
    }

    private enum Outcome { case right, loud, incomplete, wrong(String) }

    /// Reads everything.
    private static func outcome(_ image: DiskImage, _ model: CampaignModel) throws -> Outcome {
        do throws(StoreError) {
            let store = try Store.open(SimulatedDisk(image), memory: .alone, indexBytes: 1 << 20)
            var isLoud = false
            let wanted = model.history[model.history.count - 1].checkpoints
            for (name, numbers) in wanted {
                for number in numbers.sorted() {
                    do throws(StoreError) {
                        if let problem = try CampaignCheck.compare(store, name, number, model.closed[name]?[number]) {
                            return .wrong(problem)
                        }
                    } catch {
                        switch error {
                        case .noStream, .noCheckpoint: if !isLoud { isLoud = try store.scrub().findingCount > 0 }
                        default: isLoud = true
                        }
                        if !isLoud { return .incomplete }
                    }
                }
            }
            return isLoud ? .loud : .right
        } catch {
            return .loud
        }
    }

    /// Collects the places of everything that is not a page.
    private struct Places: WalkVisitor {
        var ranges: [Range<UInt64>] = []
        mutating func visit(_ location: PageLocation, _ thing: WalkContext.Thing, _ context: WalkContext) {
            let bytes = thing == .commit ? 512 : thing == .next ? 0 : location.length
            ranges.append(location.offset..<location.offset + UInt64(bytes))
        }
        mutating func visit(bytes: DataReference, _ thing: WalkContext.Thing, _ context: WalkContext) {
            visit(bytes.location, thing, context)
        }
        func visit(pages: [TreeEntry], _ context: WalkContext) {}
        func failed(_ error: StoreError, _ context: WalkContext) throws(StoreError) { throw error }
        func finished(_ context: WalkContext) {}
    }

    @Test func everyByteOfMetadata() throws {
        let (image, _, model) = try Self.makeStore()
        let ground = try Store.openGround(SimulatedDisk(image), memory: .alone, indexBytes: 1 << 20)
        var places = Places()
        var walker = StreamWalker(identity: ground.identity, source: NodeSource(disk: ground.disk))
        for slot in try ground.slots() {
            try walker.walk(slot.record, slot: slot.index, &places)
            for copy in 0..<2 {
                let offset = ground.layout.slotOffset(slot.index, copy: copy)
                places.ranges.append(offset..<offset + 512)
            }
        }
        for offset in StoreLayout.superblockOffsets { places.ranges.append(offset..<offset + 512) }
        let bytes = Set(places.ranges.flatMap { Array($0) }).sorted()
        #expect(bytes.count > 5000)
        var counts = (right: 0, loud: 0)
        for (index, offset) in bytes.enumerated() {
            var damaged = image
            damaged.flip(bit: index % 8, at: offset)
            switch try Self.outcome(damaged, model) {
            case .right: counts.right += 1
            case .loud: counts.loud += 1
            case .incomplete: Issue.record("a flipped bit in byte \(offset) makes something vanish without a word")
            case .wrong(let what): Issue.record("a flipped bit in byte \(offset): \(what)")
            }
        }
        #expect(counts.loud > bytes.count / 4, "\(counts)")
    }

    @Test func tenThousandRandomBits() throws {
        let (image, _, model) = try Self.makeStore()
        let seed = UInt64.random(in: 0 ... .max)
        var generator = SeededGenerator(seed: seed)
        let offsets = image.writtenOffsets
        var loud = 0
        for round in 0..<1250 {
            var damaged = image
            for _ in 0..<8 {
                let piece = offsets[Int.random(in: 0..<offsets.count, using: &generator)]
                damaged.flip(bit: Int.random(in: 0..<8, using: &generator), at: piece + UInt64.random(in: 0..<4096, using: &generator))
            }
            switch try Self.outcome(damaged, model) {
            case .right: break
            case .loud: loud += 1
            case .incomplete: Issue.record("seed \(seed), round \(round): something vanished without a word")
            case .wrong(let what): Issue.record("seed \(seed), round \(round): \(what)")
            }
        }
        #expect(loud > 300)
    }

    @Test func misdirectedAndStaleSectors() throws {
        let (image, earlier, model) = try Self.makeStore()
        let seed = UInt64.random(in: 0 ... .max)
        var generator = SeededGenerator(seed: seed)
        let sectors = image.writtenOffsets.flatMap { piece in stride(from: piece, to: piece + 4096, by: 512) }
        var loud = 0
        for round in 0..<1500 {
            var damaged = image
            let target = sectors[Int.random(in: 0..<sectors.count, using: &generator)]
            let isStale = round % 2 == 0
            if isStale {
                damaged.write(earlier.bytes(at: target, count: 512) ?? [], at: target)
            } else {
                damaged.copySector(from: sectors[Int.random(in: 0..<sectors.count, using: &generator)], to: target)
            }
            switch try Self.outcome(damaged, model) {
            case .right: break
            case .loud: loud += 1
            // A slot whose only writes were all lost looks as it did before: nothing on the disk says otherwise.
            case .incomplete where isStale: break
            case .incomplete: Issue.record("seed \(seed), round \(round): sector \(target) made something vanish without a word")
            case .wrong(let what): Issue.record("seed \(seed), round \(round): sector \(target): \(what)")
            }
        }
        // Most sectors are zeros written ahead, which nobody misses.
        #expect(loud > 20)
    }

    @Test func scrubNamesWhatIsDamagedAndRepairsWhatItCan() throws {
        let (image, _, model) = try Self.makeStore()
        let clean = try Store.open(SimulatedDisk(image), memory: .alone)
        #expect(try clean.scrub().findingCount == 0)
        #expect(try clean.scrub().checkpoints >= 5)
        let key = try #require(PageKey(map: 0, page: 5))
        let place = try #require(try clean.checkpoint(stream: "one", .number(5)).locate(key))
        var damaged = image
        damaged.flip(bit: 0, at: place.entry.location.offset + 3)
        let page = try Store.open(SimulatedDisk(damaged), memory: .alone).scrub()
        #expect(page.findings.first?.damage.what == "page 5 of memory")
        #expect(page.findings.first?.damage.stream == "one")
        #expect(!page.isClean)
        // A copy of a superblock, and one of a slot.
        let ground = try #require(clean.ground as? Ground)
        damaged = image
        damaged.flip(bit: 0, at: StoreLayout.superblockOffsets[1] + 30)
        damaged.flip(bit: 0, at: ground.layout.slotOffset(0, copy: 0) + 30)
        let disk = SimulatedDisk(damaged)
        let store = try Store.open(disk, memory: .alone)
        #expect(try store.verify().findingCount == 2)
        let repaired = try store.scrub(repairs: true)
        #expect(repaired.findingCount == 2 && repaired.isClean)
        #expect(try store.scrub().findingCount == 0)
        guard case .right = try Self.outcome(disk.image, model) else {
            Issue.record("what was repaired is not right")
            return
        }
    }

    /// After a crash the log is followed from the last anchor: a damaged commit in it ends the history, and is told from a torn end.
    @Test func aDamagedCommitBehindTheAnchorIsNamed() throws {
        let disk = try CampaignCheck.makeDisk()
        do {
            let run = try CampaignRun(on: disk)
            try run.create("one")
            for number in 1...12 as ClosedRange<UInt64> { try run.commit("one", number, pages: [number % 4], salt: number) }
            run.stop()
        }
        let crashed = disk.image
        let entries = try Store.open(SimulatedDisk(crashed), memory: .alone).history("one")
        #expect(entries.count == 12)
        for (index, entry) in entries.enumerated() {
            var damaged = crashed
            damaged.flip(bit: 3, at: entry.offset + 200)
            let store = try Store.open(SimulatedDisk(damaged), memory: .alone)
            #expect(try store.history("one").map(\.number) == entries.prefix(index).map(\.number), "the history ends before it")
            for report in [try store.verify(), try store.scrub()] {
                // Of the last one nothing tells that it was durable: power may have failed while it was written.
                guard index < entries.count - 1 else {
                    #expect(report.findingCount == 0)
                    continue
                }
                #expect(report.findings.first?.damage.what == "commit block" && report.findingCount == 1, "\(index): \(report)")
                #expect(report.findings.first?.damage.offset == entry.offset && report.findings.first?.damage.stream == "one")
            }
        }
    }

    /// Where all commits close behind the end are damaged, too, a scrub finds those further on, which a verification does not look for.
    @Test func commitsFarBehindADamagedOneAreFoundByAScrub() throws {
        let disk = try CampaignCheck.makeDisk()
        do {
            let run = try CampaignRun(on: disk)
            try run.create("one")
            for number in 1...40 as ClosedRange<UInt64> { try run.commit("one", number, pages: Array(0..<8), salt: number) }
            run.stop()
        }
        var damaged = disk.image
        let entries = try Store.open(SimulatedDisk(damaged), memory: .alone).history("one")
        let near = entries.dropFirst(2).filter { $0.offset < entries[2].offset + 100 * UInt64(StoreFormat.blockBytes) }
        #expect(near.count < 30, "some are left")
        for entry in near { damaged.flip(bit: 3, at: entry.offset + 200) }
        let store = try Store.open(SimulatedDisk(damaged), memory: .alone)
        #expect(try store.history("one").count == 2)
        #expect(try store.verify().findingCount == 0)
        let report = try store.scrub()
        let finding = try #require(report.findings.first?.damage)
        #expect(finding.what == "commit block" && finding.stream == "one" && report.findingCount == 1, "\(report)")
        #expect(finding.offset == entries[2].offset && finding.reason.contains("commits of the stream were durable"), "\(finding)")
        // Whoever goes on from what is left has lost them: their commits are not told for ever.
        let writer = try store.writer(for: "one")
        try writer.finish()
        try store.collect()
        #expect(try store.scrub().findingCount == 0)
    }

    @Test func aDamagedSegmentEntryIsMadeAnew() throws {
        let (image, _, model) = try Self.makeStore()
        let disk = SimulatedDisk(image)
        let store = try Store.open(disk, memory: .alone)
        let ground = try #require(store.ground as? Ground)
        let before = try ground.table.entries(0..<ground.layout.segmentCount)
        let segment = try #require((0..<ground.layout.segmentCount).first { before[Int($0)]?.used.isEmpty == false })
        disk.damage { $0.flip(bit: 2, at: ground.layout.segmentEntryOffset(segment) + 60) }
        #expect(try store.scrub().findingCount == 1)
        #expect(try store.collect().segmentsRepaired == 1)
        #expect(try ground.table.entry(segment)?.used == before[Int(segment)]?.used)
        #expect(try store.scrub().findingCount == 0)
        guard case .right = try Self.outcome(disk.image, model) else {
            Issue.record("the store is not what it was")
            return
        }
    }
}
