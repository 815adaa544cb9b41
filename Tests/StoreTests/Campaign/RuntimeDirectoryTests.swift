import StoreSimulation
import Testing

@testable import Store

/// Processes under several runtime directories use one disk, at once and in turn: they write, share, drop, collect and die at random.
///
/// Nothing acknowledged is lost, and no block that is in use is ever marked free.
@Suite struct RuntimeDirectoryTests {
    @Test(arguments: 1...24 as ClosedRange<UInt64>) func nothingIsLostBetweenRuntimeDirectories(seed: UInt64) throws {
        let run = try DirectoryRun(seed: seed)
        for step in 0..<160 {
            try run.step()
            if step % 40 == 39 { try run.check("seed \(seed), step \(step)") }
        }
        run.killAll()
        try run.check("seed \(seed), at the end")
        #expect(run.collections > 3 && run.shared > 100, "seed \(seed): \(run.collections) collections, \(run.shared) pages shared")
    }
}

/// The processes, and what they were told is durable.
private final class DirectoryRun {
    private static let streams = ["one", "two", "three"]
    private static let pages: UInt64 = 48
    /// Few contents, so that streams share, and what was dropped comes again.
    private static let contents: UInt64 = 40
    private static let processesMax = 3

    private final class Process {
        let disk: SimulatedDisk
        let store: Store
        let directory: Int
        var writers: [String: StreamWriter] = [:]

        init(_ disk: SimulatedDisk, _ directory: Int, _ path: String) throws {
            self.disk = disk
            self.directory = directory
            store = try Store.open(disk, memory: .directory(path), indexBytes: 1 << 20)
        }
    }

    private let disk: SimulatedDisk
    private let directories: [TemporaryDirectory]
    private var generator: SeededGenerator
    private var processes: [Process] = []
    /// Of each stream, the contents' numbers of each checkpoint that was closed.
    private var closed: [String: [UInt64: [UInt64: UInt64]]] = [:]
    private var acknowledged: [String: UInt64] = [:]
    private(set) var collections = 0
    private(set) var shared: UInt64 = 0

    init(seed: UInt64) throws {
        generator = SeededGenerator(seed: seed)
        disk = SimulatedDisk(byteCount: 104 << 20)
        disk.restartTrace(recording: false)
        try Store.create(on: disk, StoreConfiguration(slotCount: 8, identity: StoreIdentity(low: seed, high: 4)))
        directories = try (0..<3).map { _ in try TemporaryDirectory() }
    }

    private func random(_ count: Int) -> Int { Int.random(in: 0..<count, using: &generator) }

    func step() throws {
        switch random(20) {
        case 0: try open(random(directories.count))
        case 1:
            // All end, and another directory collects: what the first one's memory knows is wrong from then on.
            killAll()
            try open(random(directories.count))
            try collect()
        case 2: try collect()
        case 3: kill(random(max(1, processes.count)))
        case 4: try finish(random(max(1, processes.count)))
        case 5...7: try openWriter()
        case 8, 9: try drop()
        default: try commit()
        }
    }

    private func open(_ directory: Int) throws {
        guard processes.count < Self.processesMax else { return }
        processes.append(try Process(disk.openedAgain(), directory, directories[directory].path))
    }

    private func kill(_ index: Int) {
        guard processes.indices.contains(index) else { return }
        processes.remove(at: index).disk.kill()
    }

    func killAll() { while !processes.isEmpty { kill(0) } }

    private func finish(_ index: Int) throws {
        guard processes.indices.contains(index) else { return }
        for (name, writer) in processes.remove(at: index).writers {
            try writer.finish()
            acknowledge(name, writer.durableNumber)
        }
    }

    private func openWriter() throws {
        if processes.isEmpty { try open(random(directories.count)) }
        let process = processes[random(processes.count)]
        let name = Self.streams[random(Self.streams.count)]
        guard process.writers[name] == nil else { return }
        do throws(StoreError) {
            process.writers[name] = try process.store.writer(for: name)
        } catch .noStream {
            process.writers[name] = try process.store.createStream(name: name, time: 1)
            closed[name] = [0: [:]]
        } catch .streamInUse { return }
    }

    private func someWriter() -> (name: String, writer: StreamWriter)? {
        let all = processes.flatMap { process in process.writers.sorted { $0.key < $1.key } }
        return all.isEmpty ? nil : all.map { (name: $0.key, writer: $0.value) }[random(all.count)]
    }

    private func commit() throws {
        guard let (name, writer) = someWriter() else { return try openWriter() }
        let last = writer.lastNumber
        var pages = try #require(closed[name]?[last], "\(name) goes on from \(last), which was never closed")
        let number = last + UInt64(1 + random(3))
        var changes: [(PageKey, UInt64)] = []
        for _ in 0..<1 + random(4) {
            let first = UInt64(random(Int(Self.pages)))
            for page in first..<min(Self.pages, first + UInt64(1 + random(5))) {
                let content = random(8) == 0 ? 0 : 1001 + UInt64(random(Int(Self.contents)))
                pages[page] = content
                changes.append((PageKey(rawValue: page), content))
            }
        }
        closed[name]?[number] = pages
        try writer.begin(number)
        try PageContents.add(changes, to: writer)
        shared += try writer.close(bytes: [UInt8(truncatingIfNeeded: number)], time: number).sharedPages
        if random(10) < 7 { acknowledge(name, try writer.flush()) }
    }

    private func acknowledge(_ name: String, _ number: UInt64) { acknowledged[name] = max(number, acknowledged[name] ?? 0) }

    private func drop() throws {
        guard let (_, writer) = someWriter() else { return }
        let numbers = try writer.history().map(\.number).filter { $0 < writer.durableNumber }
        let dropped = numbers.filter { _ in random(3) > 0 }
        if !dropped.isEmpty { try writer.drop(dropped) }
        if random(2) == 0 { try writer.yieldSpace() }
    }

    /// Others write meanwhile, wherever the collector may be.
    private func collect() throws {
        guard !processes.isEmpty else { return }
        let process = processes[random(processes.count)]
        var failure: (any Error)?
        do throws(StoreError) {
            try process.store.collect { _ in
                guard self.random(2) == 0, failure == nil else { return }
                do { try self.random(4) == 0 ? self.drop() : self.commit() } catch { failure = error }
            }
            collections += 1
        } catch {
            guard case .busy = error, processes.contains(where: { $0.directory != process.directory }) else { throw error }
        }
        if let failure { throw failure }
    }

    /// Scrubs, and compares all that is there with what it must be.
    func check(_ what: String) throws {
        let store = try Store.open(disk.openedAgain(), memory: .alone, indexBytes: 1 << 20)
        let findings = try store.scrub().findings
        #expect(findings == [], "\(what)")
        for name in closed.keys.sorted() {
            let history = try store.history(name)
            if let number = acknowledged[name] { #expect(history.last?.number ?? 0 >= number, "\(what): \(name) lost \(number)") }
            for entry in history {
                let wanted = try #require(closed[name]?[entry.number], "\(what): \(name) \(entry.number) was never closed")
                let reader = try store.checkpoint(stream: name, .number(entry.number))
                for page in 0..<Self.pages {
                    let found = try PageContents.read(PageKey(rawValue: page), from: reader)
                    #expect(found == PageContents.bytes(wanted[page] ?? 0), "\(what): page \(page) of \(name) \(entry.number)")
                }
            }
        }
    }
}
