import Foundation
import Linux
import Synchronization
import Testing

@testable import AuroraVMM

/// Every page that changes is reported, however it is written and whenever it is asked.
@Suite(.serialized, .enabled(if: GuestKit.isThere, "no real guest can be made here; see the output"))
struct DirtyTrackerTests {
    /// A mirror of memory is kept up to date from reports alone, and compared with all of memory while the guest is paused.
    ///
    /// A ring of 1,024 entries is full all the time, and overflows now and then; zero entries: KVM's bitmaps.
    @Test(.timeLimit(.minutes(10)), arguments: [DirtyRing.entriesDefault, 1024, 0], [true, false])
    func aMirrorFollows(ringEntries: Int, fromTheStart: Bool) throws {
        let seed = UInt64(ProcessInfo.processInfo.environment["AURORA_TEST_SEED"] ?? "") ?? UInt64.random(in: 0...UInt64.max)
        print("seed \(seed): set AURORA_TEST_SEED to repeat")
        var generator = SeededGenerator(seed: seed)
        let console = GuestConsole()
        var configuration = try GuestKit.get().configuration(["test.busy"], console: console)
        let scratch = try ScratchDirectory()
        configuration.blockDevices = [BlockDeviceConfiguration(path: try scratch.disk("disk", bytes: 1 << 20))]
        configuration.dirtyRingEntries = ringEntries
        configuration.tracksWrites = fromTheStart
        let machine = try Machine(configuration)
        #expect(machine.tracker.usesRing == (ringEntries > 0))
        let mirror = try Mapping.anonymous(count: machine.memory.pageCount * pageBytes, what: "a mirror")
        if !fromTheStart {
            machine.resume()
            try console.wait("a working guest") { $0.counters.flatMap { $0["forks"] > 0 ? $0 : nil } }
            try machine.setTracksWrites(true)
        }
        // Everything is copied, in one case while the guest writes.
        for page in 0..<machine.memory.pageCount { machine.memory.copy(page: page, to: mirror.base + page * pageBytes) }
        #expect(machine.tracksWrites)
        var dirty = 0
        for round in 0..<20 {
            machine.resume()
            for _ in 0..<generator.below(4) {
                usleep(UInt32(generator.below(fromTheStart ? 60_000 : 15_000)))
                dirty += try update(mirror, machine)
            }
            machine.pause()
            dirty += try update(mirror, machine)
            #expect(differences(mirror, machine) == [], "round \(round)")
        }
        #expect(dirty > 100)
        print("\(dirty) dirty pages, \(machine.tracker.overflows) overflows")
        if ringEntries == DirtyRing.entriesDefault { #expect(machine.tracker.overflows == 0) }
        try machine.setTracksWrites(false)
        #expect(!machine.tracksWrites)
        machine.stop()
    }

    /// KVM stops resetting the ring when a signal is pending (from Linux 6.17 on): no page is lost, and it is not taken for an overrun.
    @Test(.timeLimit(.minutes(10)))
    func aMirrorFollowsUnderSignals() throws {
        let console = GuestConsole()
        var configuration = try GuestKit.get().configuration(["test.busy"], console: console)
        let scratch = try ScratchDirectory()
        configuration.blockDevices = [BlockDeviceConfiguration(path: try scratch.disk("disk", bytes: 1 << 20))]
        configuration.tracksWrites = true
        let machine = try Machine(configuration)
        let mirror = try Mapping.anonymous(count: machine.memory.pageCount * pageBytes, what: "a mirror")
        for page in 0..<machine.memory.pageCount { machine.memory.copy(page: page, to: mirror.base + page * pageBytes) }
        machine.resume()
        let isOver = Atomic(false)
        let harvester = try Thread(name: "harvester") { @Sendable [self] in
            for round in 0..<200 {
                if round % 20 == 19 {
                    machine.pause()
                    _ = try? update(mirror, machine)
                    #expect(differences(mirror, machine) == [], "round \(round)")
                    machine.resume()
                } else {
                    _ = try? update(mirror, machine)
                }
                usleep(2000)
            }
            isOver.store(true, ordering: .releasing)
        }
        while !isOver.load(ordering: .acquiring) { harvester.interrupt() }
        harvester.join()
        #expect(machine.tracker.overflows == 0)
        machine.stop()
        #expect(console.complaints == [])
    }

    private func update(_ mirror: Mapping, _ machine: Machine) throws -> Int {
        try machine.harvestDirtyPages()
        var count = 0
        machine.memory.drainDirtyPages { page in
            machine.memory.copy(page: page, to: mirror.base + page * pageBytes)
            count += 1
        }
        return count
    }

    private func differences(_ mirror: Mapping, _ machine: Machine) -> [Int] {
        var result: [Int] = []
        for region in machine.memory.regions {
            let base = mirror.base + region.firstPage * pageBytes
            if memcmp(base, region.mapping.base, region.count) == 0 { continue }
            for page in 0..<region.count / pageBytes
            where memcmp(base + page * pageBytes, region.mapping.base + page * pageBytes, pageBytes) != 0 {
                result.append(region.firstPage + page)
                if result.count >= 20 { return result }
            }
        }
        return result
    }
}
