import ArgumentParser
import AuroraVMM
import CLinux
import Linux

/// What a lazy restore costs, and what a page costs that is fetched when it is touched.
struct MeasureRestoreCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "measure-restore",
        abstract: "Restore a guest lazily from memory, again and again, and tell what each part takes; JSON on standard output.")

    @OptionGroup var options: MachineOptions
    @Option(help: "How many restores.") var count = 100
    @Option(help: "Milliseconds the guest runs before it is saved.") var after = 2000
    @Option(help: "Milliseconds each restored guest runs.") var during = 50
    @Option(help: "Pages fetched around a touched one.") var readAhead = 16
    @Option(help: "Microseconds the handler looks for the next fault before it sleeps.") var spin: Int64 = 100
    @Argument(help: "Words for the kernel's command line.") var words: [String] = []

    func run() throws {
        let configuration = try options.configuration(words: words)
        let machine = try Machine(configuration)
        machine.start()
        usleep(UInt32(after) * 1000)
        let resting = try machine.rest()
        let state = try resting.save()
        let pages = CopiedPages(machine.memory)
        var policy = LazyPolicy()
        policy.readAheadPages = readAhead
        policy.spinNanoseconds = spin * 1000
        var parts: [String: [Double]] = [:]
        func add(_ part: String, _ nanoseconds: Int64) { parts[part, default: []].append(Double(nanoseconds) / 1000) }
        for _ in 0..<count {
            let start = clinux_clock_ns(CLOCK_MONOTONIC)
            let restored = try Machine(configuration, restoring: state, pages: pages, policy: policy)
            restored.start()
            add("to_resume_us", clinux_clock_ns(CLOCK_MONOTONIC) - start)
            let deadline = start + 1_000_000_000
            while restored.memory.lazy?.statistics.faults == 0, clinux_clock_ns(CLOCK_MONOTONIC) < deadline { clinux_pause() }
            add("to_first_fault_us", clinux_clock_ns(CLOCK_MONOTONIC) - start)
            usleep(UInt32(during) * 1000)
            let atRest = try restored.rest()
            if let times = restored.restoreTimes {
                add("memory_us", times.memory)
                add("machine_us", times.machine)
                add("state_us", times.state)
                add("threads_us", times.threads)
            }
            if let statistics = restored.memory.lazy?.statistics, statistics.faults > 0 {
                parts["faults", default: []].append(Double(statistics.faults))
                parts["pages", default: []].append(Double(statistics.pagesRead + statistics.pagesZeroed))
                add("fault_service_us", statistics.faultNanoseconds / Int64(statistics.faults))
            }
            atRest.resume()
            restored.stop()
        }
        for (name, ahead) in [("touch_1_page_us", 1), ("touch_16_pages_us", 16), ("touch_64_pages_us", 64)] {
            parts[name] = try touches(ahead, spin: spin)
        }
        parts["touch_1_page_asleep_us"] = try touches(1, spin: 0)
        for size in [1, 16, 64, 256] { parts["fill_\(size)_pages_us"] = try fills(size) }
        say("{" + parts.sorted { $0.key < $1.key }.map { "\"\($0.key)\": \(Self.summary($0.value))" }.joined(separator: ", ") + "}")
        resting.resume()
        machine.stop()
    }

    private static let touchedPages = 16384

    /// The time of each touch that has to wait for the handler.
    private func touches(_ ahead: Int, spin: Int64) throws -> [Double] {
        let mapping = try Mapping.anonymous(count: Self.touchedPages * 4096, what: "a measurement")
        var policy = LazyPolicy()
        policy.readAheadPages = ahead
        policy.spinNanoseconds = spin * 1000
        let memory = try LazyMemory([mapping], source: SamePage(), policy: policy)
        defer { memory.stop() }
        var byte = [UInt8](repeating: 0, count: 1)
        return stride(from: 0, to: Self.touchedPages, by: max(ahead, 16)).map { page in
            let start = clinux_clock_ns(CLOCK_MONOTONIC)
            // A copy that nothing can leave out.
            byte.withUnsafeMutableBytes { $0.copyMemory(from: UnsafeRawBufferPointer(start: mapping.base + page * 4096, count: 1)) }
            let elapsed = Double(clinux_clock_ns(CLOCK_MONOTONIC) - start) / 1000
            precondition(byte[0] == 7, "the page was not fetched")
            return elapsed
        }
    }

    /// The time to fill so many pages on the calling thread.
    private func fills(_ size: Int) throws -> [Double] {
        let mapping = try Mapping.anonymous(count: Self.touchedPages * 4096, what: "a measurement")
        var policy = LazyPolicy()
        policy.readAheadPages = size
        let memory = try LazyMemory([mapping], source: SamePage(), policy: policy)
        defer { memory.stop() }
        return try stride(from: 0, to: Self.touchedPages, by: size).map { page in
            let start = clinux_clock_ns(CLOCK_MONOTONIC)
            try memory.populate(page..<page + size)
            return Double(clinux_clock_ns(CLOCK_MONOTONIC) - start) / 1000
        }
    }

    private static func summary(_ values: [Double]) -> String {
        let sorted = values.sorted()
        func at(_ share: Double) -> Double { (sorted[min(sorted.count - 1, Int(share * Double(sorted.count)))] * 10).rounded() / 10 }
        guard !sorted.isEmpty else { return "{}" }
        return "{\"count\": \(sorted.count), \"min\": \(at(0)), \"median\": \(at(0.5)), \"p99\": \(at(0.99)), \"max\": \(at(1))}"
    }
}

/// A guest's memory as it was, in memory.
private final class CopiedPages: PageSource, @unchecked Sendable {
    // Safety: filled in `init`, read afterwards.
    private var bytes: [UInt8]
    private var isStored: [Bool]

    init(_ memory: GuestMemory) {
        let count = memory.pageCount
        bytes = [UInt8](repeating: 0, count: count * 4096)
        isStored = [Bool](repeating: false, count: count)
        bytes.withUnsafeMutableBytes { all in
            guard let base = all.baseAddress else { return }
            for page in 0..<count {
                memory.copy(page: page, to: base + page * 4096)
                let words = UnsafeRawBufferPointer(rebasing: all[(page * 4096)..<((page + 1) * 4096)]).bindMemory(to: UInt64.self)
                isStored[page] = words.contains { $0 != 0 }
            }
        }
    }

    func has(_ page: Int) -> Bool { isStored[page] }

    func read(page: Int, count: Int, into buffer: UnsafeMutableRawBufferPointer) throws(PageSourceError) {
        bytes.withUnsafeBytes { buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[(page * 4096)..<((page + count) * 4096)])) }
    }
}

/// Every page holds the same.
private struct SamePage: PageSource {
    func has(_ page: Int) -> Bool { true }
    func read(page: Int, count: Int, into buffer: UnsafeMutableRawBufferPointer) throws(PageSourceError) {
        buffer.initializeMemory(as: UInt8.self, repeating: 7)
    }
}
