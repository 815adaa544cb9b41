import Foundation
import Linux
import Synchronization
import Testing

@testable import AuroraVMM

/// Whether this user may use userfaultfd for what the kernel touches.
enum LazyKit {
    static let isThere: Bool = {
        if (try? UserFaults()) != nil { return true }
        FileHandle.standardError.write(Data("SKIPPED: tests of lazy memory: userfaultfd is not permitted to this user\n".utf8))
        return false
    }()
}

/// Lazily filled memory without a machine.
@Suite(.enabled(if: LazyKit.isThere, "userfaultfd is not permitted; see the output"))
struct LazyMemoryTests {
    private static let pages = 256

    /// Every third page is zero; each other one says its number everywhere.
    private static func contents() throws -> RecordedPages {
        let mapping = try Mapping.anonymous(count: pages * pageBytes, what: "a test")
        for page in 0..<pages where page % 3 != 0 {
            memset(mapping.base + page * pageBytes, Int32(page % 250 + 1), pageBytes)
        }
        return RecordedPages([mapping])
    }

    private static func expected(_ page: Int) -> UInt8 { page % 3 == 0 ? 0 : UInt8(page % 250 + 1) }

    private static func check(_ mappings: [Mapping], _ pages: some Sequence<Int>) {
        for page in pages {
            let half = Self.pages / 2
            let place = page < half ? mappings[0].base + page * pageBytes : mappings[1].base + (page - half) * pageBytes
            let bytes = UnsafeRawBufferPointer(start: place, count: pageBytes)
            #expect(bytes.allSatisfy { $0 == expected(page) }, "page \(page)")
        }
    }

    private static func make(_ source: RecordedPages, _ policy: LazyPolicy = LazyPolicy()) throws -> ([Mapping], LazyMemory) {
        let half = pages / 2 * pageBytes
        let mappings = [try Mapping.anonymous(count: half, what: "a test"), try Mapping.anonymous(count: half, what: "a test")]
        return (mappings, try LazyMemory(mappings, source: source, policy: policy))
    }

    @Test func touchedPagesAreFetchedAndOthersAreNot() throws {
        let source = try Self.contents()
        var policy = LazyPolicy()
        policy.readAheadPages = 4
        let (mappings, memory) = try Self.make(source, policy)
        Self.check(mappings, [17, 200, 3])
        // Who waited goes on when its page is there, the rest of its window follows.
        let deadline = Date().addingTimeInterval(180)
        while memory.statistics.pagesRead + memory.statistics.pagesZeroed < 12, Date() < deadline { usleep(1000) }
        #expect(memory.presentPages == 12)
        #expect(memory.workingSet == [17, 200, 3])
        // The touched page comes alone, so that who waits for it does not wait for its neighbours.
        let reads = source.behaviour.withLock { $0.reads }
        for page in [17, 200] { #expect(reads.first { $0.contains(page) } == page..<page + 1) }
        #expect(source.behaviour.withLock { $0.pagesRead } == memory.statistics.pagesRead)
        #expect(memory.statistics.pagesRead + memory.statistics.pagesZeroed == 12)
        Self.check(mappings, 0..<Self.pages)
        #expect(memory.presentPages == Self.pages)
        memory.stop()
        #expect(memory.isWhole)
    }

    /// A stop copies what the guest gave back: if the handler's thread had to serve each page, 33,000 of them would take a second.
    @Test func pagesGivenBackAreReadWithoutAFault() throws {
        let (mappings, lazy) = try Self.make(try Self.contents())
        Self.check(mappings, 0..<Self.pages)
        let half = Self.pages / 2 * pageBytes
        let memory = GuestMemory(
            regions: [.init(start: GuestAddress(0), mapping: mappings[0]), .init(start: GuestAddress(UInt64(half)), mapping: mappings[1])],
            lazy: lazy)
        let faults = lazy.statistics.faults
        #expect(memory.release(region: 0, offset: 0, count: half) == Self.pages / 2)
        #expect(UnsafeRawBufferPointer(start: mappings[0].base, count: half).allSatisfy { $0 == 0 })
        #expect(lazy.statistics.faults == faults)
        lazy.stop()
    }

    @Test func pagesGivenBackAreWrittenUnlessTheyWereZerosAnyway() throws {
        let (mappings, lazy) = try Self.make(try Self.contents())
        let half = Self.pages / 2 * pageBytes
        let memory = GuestMemory(
            regions: [.init(start: GuestAddress(0), mapping: mappings[0]), .init(start: GuestAddress(UInt64(half)), mapping: mappings[1])],
            lazy: lazy)
        #expect(memory.release(region: 1, offset: 4 * pageBytes, count: 6 * pageBytes) == 6)
        var written: [Int] = []
        memory.drainDirtyPages { written.append($0) }
        let first = Self.pages / 2 + 4
        #expect(written == (first..<first + 6).filter { $0 % 3 != 0 })
        for page in 4..<10 { #expect(mappings[1].base.load(fromByteOffset: page * pageBytes, as: UInt8.self) == 0) }
        lazy.stop()
    }

    /// A source that does not come back holds nobody who ends the memory, and is told by the name of the thread that waits for it.
    @Test func aSourceThatHangsIsLeftBehind() throws {
        let source = try Self.contents()
        var policy = LazyPolicy()
        policy.populatesInBackground = true
        source.behaviour.withLock { $0.isHeld = true }
        let (mappings, memory) = try Self.make(source, policy)
        while source.behaviour.withLock({ $0.waiting }) == 0 { usleep(200) }
        #expect(memory.stop(seconds: 3) == ["populate"])
        #expect(memory.stop(seconds: 3600) == [])
        source.behaviour.withLock { $0.isHeld = false }
        while source.behaviour.withLock({ $0.waiting }) != 0 { usleep(200) }
        withExtendedLifetime(mappings) {}
    }

    @Test func manyThreadsTouchAtRandom() throws {
        let (mappings, memory) = try Self.make(try Self.contents())
        let seed = UInt64.random(in: 0...UInt64.max)
        print("seed \(seed)")
        let wrong = Mutex<[Int]>([])
        let threads = try (0..<8).map { number in
            try Thread(name: "toucher") { @Sendable in
                var generator = SeededGenerator(seed: seed &+ UInt64(number))
                let half = Self.pages / 2
                for _ in 0..<400 {
                    let page = generator.below(Self.pages)
                    let place = page < half ? mappings[0].base + page * pageBytes : mappings[1].base + (page - half) * pageBytes
                    if place.load(as: UInt8.self) != Self.expected(page) { wrong.withLock { $0.append(page) } }
                    if page % 5 == 0 {
                        let extent = page < half ? 0 : 1
                        try? memory.ensure(extent: extent, offset: (page - extent * half) * pageBytes, count: pageBytes)
                    }
                }
            }
        }
        for thread in threads { thread.join() }
        #expect(wrong.withLock { $0 } == [])
        memory.stop()
    }

    @Test func backgroundFetchesEverything() throws {
        var policy = LazyPolicy()
        policy.populatesInBackground = true
        let (mappings, memory) = try Self.make(try Self.contents(), policy)
        let deadline = Date().addingTimeInterval(180)
        while memory.presentPages < Self.pages, Date() < deadline { usleep(1000) }
        #expect(memory.presentPages == Self.pages)
        #expect(memory.statistics.faults == 0)
        Self.check(mappings, 0..<Self.pages)
        memory.stop()
    }

    /// What is named is fetched without a touch, neighbours together; what cannot be had, or does not exist, harms nobody.
    @Test func namedPagesAreFetchedAhead() throws {
        let source = try Self.contents()
        source.behaviour.withLock { $0.failing = [50] }
        var policy = LazyPolicy()
        policy.pagesAhead = [200, 3, 100_000, 50, 8, 7, .max] + Array(repeating: 3, count: 40) + [130]
        let (mappings, memory) = try Self.make(source, policy)
        let deadline = Date().addingTimeInterval(180)
        while memory.presentPages < 5, Date() < deadline { usleep(1000) }
        #expect(memory.presentPages == 5)
        #expect(memory.statistics.faults == 0)
        #expect(memory.failure == nil)
        #expect(source.behaviour.withLock { $0.reads } == [7..<9, 50..<51, 200..<201, 130..<131])
        Self.check(mappings, [200, 3, 8, 7, 130])
        // What was fetched ahead was not waited for, and a page that could not be had then can be had later.
        #expect(memory.workingSet == [])
        source.behaviour.withLock { $0.failing = [] }
        Self.check(mappings, 0..<Self.pages)
        #expect(memory.failure == nil)
        memory.stop()
        #expect(memory.isWhole)
    }

    @Test func releasedPagesReadAsZeros() throws {
        let (mappings, memory) = try Self.make(try Self.contents())
        Self.check(mappings, [1])
        madvise(mappings[0].base, 16 * pageBytes, MADV_DONTNEED)
        #expect((mappings[0].base + pageBytes).load(as: UInt64.self) == 0)
        #expect((mappings[0].base + 40 * pageBytes).load(as: UInt8.self) == Self.expected(40))
        memory.stop()
    }

    /// A neighbour that is damaged harms nobody until it is touched; then the error is known before anybody goes on.
    @Test func damagedPagesAreNamed() throws {
        let source = try Self.contents()
        source.behaviour.withLock { $0.failing = [20, 100] }
        let (mappings, memory) = try Self.make(source)
        let told = Mutex<PageSourceError?>(nil)
        memory.setFailureHandler { error in told.withLock { $0 = error } }
        Self.check(mappings, [19])
        #expect(memory.failure == nil)
        _ = (mappings[0].base + 20 * pageBytes).load(as: UInt8.self)
        #expect(told.withLock { $0?.page } == 20)
        #expect(memory.failure?.description.contains("page 20") == true)
        #expect(throws: PageSourceError.self) { try memory.ensure(extent: 0, offset: 100 * pageBytes + 8, count: 8) }
        #expect(told.withLock { $0?.page } == 100)
        memory.stop()
        #expect(!memory.isWhole)
    }

    /// Who waits when the memory is stopped goes on: nothing hangs.
    @Test func stoppingReleasesWaiters() throws {
        let source = try Self.contents()
        let (mappings, memory) = try Self.make(source)
        source.behaviour.withLock { $0.isHeld = true }
        let toucher = try Thread(name: "toucher") { @Sendable in _ = mappings[0].base.advanced(by: pageBytes).load(as: UInt8.self) }
        let deadline = Date().addingTimeInterval(180)
        while source.behaviour.withLock({ $0.waiting == 0 }), Date() < deadline { usleep(1000) }
        #expect(source.behaviour.withLock { $0.waiting } == 1)
        source.behaviour.withLock {
            $0.isHeld = false; $0.failsAll = true
        }
        memory.stop()
        toucher.join()
        #expect(throws: (any Error).self) { try memory.populate(30..<32) }
        #expect(!memory.isWhole)
    }
}
