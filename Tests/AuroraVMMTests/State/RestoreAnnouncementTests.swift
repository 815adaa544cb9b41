import CLinux
import Linux
import Testing

@testable import AuroraVMM

/// The page by which a guest of either mode learns that it was restored.
@Suite struct RestoreAnnouncementTests {
    private let page = GuestAddress(0x1000)
    private let absence = GuestAddress(0x1000 + UInt64(RestoreAnnouncement.absenceOffset))
    private let second: Int64 = 1_000_000_000

    private func memory() throws -> GuestMemory {
        GuestMemory(regions: [.init(start: GuestAddress(0), mapping: try .anonymous(count: 4 * pageBytes, what: "test memory"))])
    }

    @Test func absencesAddUpUntilTheGuestTakesNotice() throws {
        let memory = try memory()
        for restore in UInt64(1)...2 {
            try RestoreAnnouncement.write(to: page, in: memory, savedAt: clinux_clock_ns(CLOCK_REALTIME) - 3600 * second)
            let passed: UInt64 = try memory.load(absence)
            #expect(passed >= restore * 3600 * UInt64(second) && passed < restore * 4000 * UInt64(second))
        }
        try memory.store(UInt64.max - 1, at: absence)
        try RestoreAnnouncement.write(to: page, in: memory, savedAt: 0)
        #expect(try memory.load(absence, as: UInt64.self) == .max)
    }

    @Test(arguments: [nil, Int64.min, .max])
    func aClockThatTellsNothingCountsAsNoAbsence(savedAt: Int64?) throws {
        let memory = try memory()
        try RestoreAnnouncement.write(to: page, in: memory, savedAt: savedAt)
        #expect(try memory.load(absence, as: UInt64.self) == 0)
    }

    @Test func randomBytesAreNewEachTimeAndThePageCountsAsWritten() throws {
        let memory = try memory()
        try RestoreAnnouncement.write(to: page, in: memory, savedAt: nil)
        let first = try memory.bytes(page, count: RestoreAnnouncement.seedBytes)
        try RestoreAnnouncement.write(to: page, in: memory, savedAt: nil)
        #expect(try memory.bytes(page, count: RestoreAnnouncement.seedBytes) != first)
        var pages: [Int] = []
        memory.regions[0].dirty.drain { pages.append($0) }
        #expect(pages == [1])
    }

    @Test func aPageThatIsNotThereIsAnError() throws {
        let memory = try memory()
        #expect(throws: MachineError.self) { try RestoreAnnouncement.write(to: GuestAddress(1 << 40), in: memory, savedAt: nil) }
    }
}
