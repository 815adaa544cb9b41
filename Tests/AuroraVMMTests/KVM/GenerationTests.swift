import CLinux
import Foundation
import Linux
import Testing

@testable import AuroraVMM

enum GenerationKit {
    /// Whether the prepared kernel's module is one that is told of restores.
    static let isThere: Bool = {
        guard let kit = try? GuestKit.get(), let module = FileManager.default.contents(atPath: "\(kit.modules)/aurora.ko"),
            module.range(of: Data("aurora-restore".utf8)) == nil
        else { return true }
        FileHandle.standardError.write(Data("SKIPPED: tests of the clock after a restore: run aurora image prepare\n".utf8))
        return false
    }()
}

extension GenerationKit {
    /// Whether that module lets the time pass in which a guest was not there.
    static let passesAbsence: Bool = {
        guard let kit = try? GuestKit.get(), let module = FileManager.default.contents(atPath: "\(kit.modules)/aurora.ko"),
            module.range(of: Data("timekeeping_inject_sleeptime64".utf8)) == nil
        else { return true }
        FileHandle.standardError.write(Data("SKIPPED: the test of all clocks after a restore: run aurora image prepare\n".utf8))
        return false
    }()
}

/// What a guest sees of clock and random numbers after a restore, at its first look.
@Suite(
    .serialized, .enabled(if: GuestKit.isThere, "no real guest can be made here; see the output"),
    .enabled(if: GenerationKit.isThere, "the prepared kernel is too old; see the output"))
struct GenerationTests {
    /// "jump OLD NEW TIME STAMP:VALUE…": stamps are readings of the time-stamp counter, which a pv guest shares with its host.
    private struct Jump {
        let lastOld: UInt64
        let firstNew: UInt64
        let time: Int64
        let random: [(stamp: UInt64, value: Substring)]

        init?(_ line: String) {
            let words = line.split(separator: " ")
            guard words.count == 8, words[0] == "jump", let old = UInt64(words[1]), let new = UInt64(words[2]), let time = Int64(words[3])
            else { return nil }
            (lastOld, firstNew, self.time) = (old, new, time)
            random = words[4...].compactMap { word in
                let parts = word.split(separator: ":")
                return parts.count == 2 ? UInt64(parts[0]).map { ($0, parts[1]) } : nil
            }
        }
    }

    /// A guest whose clock is an hour late, as if its checkpoint were an hour old, is restored many times from one state: no
    /// program ever sees the old time, and no two restores give the same random numbers.
    @Test(.timeLimit(.minutes(10)))
    func programsSeeTheRightTimeAndTheirOwnRandomNumbers() throws {
        let console = GuestConsole()
        let configuration = try GuestKit.get().configuration(["test.clock"], console: console)
        let machine = try Machine(configuration)
        machine.resume()
        try console.wait("the late clock") { $0.lines.contains { $0.contains("clock set back") } ? true : nil }
        var seen: [Substring: Int] = [:]
        var checked = 0
        for state in 0..<4 {
            usleep(30_000)
            machine.pause()
            let saved = try machine.save()
            let pages = RecordedPages(machine.memory.regions.map(\.mapping))
            for restore in 0..<4 {
                let values = try firstLook(configuration, saved, pages, console, "restore \(restore) of state \(state)")
                for value in values {
                    #expect(seen[value] == nil, "restore \(restore) of state \(state) has the random number of another")
                    seen[value] = restore
                }
                checked += values.count
            }
            machine.resume()
        }
        machine.stop()
        #expect(checked >= 16)
        #expect(console.complaints == [])
    }

    /// "clocks MONOTONIC BOOTTIME REALTIME TAI RAW CANCELLED".
    private struct Clocks {
        let monotonic, boot, real, tai, raw, cancelled: Int64
        init?(_ line: String) {
            let words = line.split(separator: " ").dropFirst().compactMap { Int64($0) }
            guard line.hasPrefix("clocks "), words.count == 6 else { return nil }
            (monotonic, boot, real, tai, raw, cancelled) = (words[0], words[1], words[2], words[3], words[4], words[5])
        }
    }

    /// The clocks of a restored guest are those of a machine that slept: the table of docs/design/restore.md.
    @Test(.timeLimit(.minutes(10)), .enabled(if: GenerationKit.passesAbsence, "the prepared kernel is too old; see the output"))
    func clocksGoOnAsAfterASuspend() throws {
        let second: Int64 = 1_000_000_000
        let absence = 3600 * second
        let console = GuestConsole()
        let configuration = try GuestKit.get().configuration(["test.absence"], console: console)
        let machine = try Machine(configuration)
        machine.resume()
        func last() -> Clocks? { console.lines.reversed().lazy.compactMap { Clocks($0) }.first }
        try console.wait("clocks") { _ in last() }
        #expect(console.lines.contains("clock sources xen"), "\(console.lines.filter { $0.contains("clock sources") })")
        machine.pause()
        var state = try machine.save()
        let pages = RecordedPages(machine.memory.regions.map(\.mapping))
        machine.stop()
        // As if the guest had been away for an hour.
        state.change { $0.savedAt = ($0.savedAt ?? 0) - absence }
        let before = try #require(last())
        for restore in 0..<3 {
            let lines = console.lines.count
            let restored = try Machine(configuration, restoring: state, pages: pages)
            defer { restored.stop() }
            let restoredAt = clinux_clock_ns(CLOCK_REALTIME)
            restored.resume()
            let after = try console.wait("restore \(restore)") { console in
                console.lines[lines...].suffix(64).lazy.compactMap { Clocks($0) }.first { $0.cancelled > before.cancelled }
            }
            let ran = after.monotonic - before.monotonic
            #expect(ran >= 0 && ran < 60 * second, "CLOCK_MONOTONIC counts \(ran) ns")
            #expect(abs(after.raw - before.raw - ran) < second, "CLOCK_MONOTONIC_RAW counts \(after.raw - before.raw) ns")
            let slept = after.boot - before.boot - ran
            #expect(slept >= absence && slept < absence + 600 * second, "CLOCK_BOOTTIME slept \(slept) ns")
            // Only the time since the state was taken was made up: the wall clock is the host's.
            #expect(after.real >= restoredAt && after.real <= clinux_clock_ns(CLOCK_REALTIME), "CLOCK_REALTIME is \(after.real)")
            // The clocks are read one after the other.
            #expect(abs((after.tai - after.real) - (before.tai - before.real)) < second, "CLOCK_TAI is \(after.tai)")
            #expect(after.cancelled == before.cancelled + 1, "TFD_TIMER_CANCEL_ON_SET: \(after.cancelled - before.cancelled) times")
        }
        #expect(console.complaints == [])
    }

    /// Restores a state and answers the random numbers that its programs asked for afterwards.
    private func firstLook(
        _ configuration: MachineConfiguration, _ state: MachineState, _ pages: RecordedPages, _ console: GuestConsole, _ what: String
    ) throws -> [Substring] {
        let lines = console.lines.count
        let machine = try Machine(configuration, restoring: state, pages: pages)
        defer { machine.stop() }
        let kilohertz = try machine.runner.cpu.tscKilohertz()
        let start = clinux_rdtsc()
        let time = clinux_clock_ns(CLOCK_REALTIME)
        machine.resume()
        let jump = try console.wait(what) { $0.lines[lines...].lazy.compactMap { Jump($0) }.first }
        #expect(jump.lastOld < start, "\(what): a program saw the old time")
        let elapsed = Int64(Double(jump.firstNew &- start) / Double(kilohertz) * 1e6)
        let wrong = jump.time - (time + elapsed)
        #expect(abs(wrong) < 1_000_000, "\(what): the clock is wrong by \(wrong) ns")
        return jump.random.filter { $0.stamp > start }.map(\.value)
    }
}
