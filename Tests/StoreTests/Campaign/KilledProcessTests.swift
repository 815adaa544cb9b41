import CLinux
import StoreSimulation
import Testing

@testable import Store

/// Real processes write and collect one file and are killed at random moments; what they had been told is durable must be there.
@Suite(.serialized) struct KilledProcessTests {
    private static let rounds = 200
    private static let streams = ["one", "two"]

    @Test(.timeLimit(.minutes(10))) func nothingAcknowledgedIsLost() throws {
        let directory = try TemporaryDirectory()
        // Two runtime directories, in turn at random and now and then at once.
        let runtimes = [directory, try TemporaryDirectory()]
        let path = "\(directory.path)/disk"
        try Store.create(on: try FileDisk.create(path, byteCount: 256 << 20), StoreConfiguration(slotCount: 16))
        let program = try Self.program()
        let seed = UInt64.random(in: 0 ... .max)
        var generator = SeededGenerator(seed: seed)
        var collected = 0
        for round in 0..<Self.rounds {
            var children: [pid_t] = []
            let usual = Int.random(in: 0...1, using: &generator)
            func runtime() -> String { runtimes[Int.random(in: 0..<8, using: &generator) == 0 ? 1 - usual : usual].path }
            for stream in Self.streams {
                children.append(try Self.start([program, "write", path, runtime(), stream, "\(directory.path)/log-\(stream)"]))
            }
            children.append(try Self.start([program, "collect", path, runtime()]))
            usleep(UInt32.random(in: 8000...120_000, using: &generator))
            for child in children {
                var status: Int32 = 0
                // A child that ended by itself had an error: it prints it.
                #expect(waitpid(child, &status, WNOHANG) == 0, "seed \(seed), round \(round): a process ended by itself")
                kill(child, SIGKILL)
                waitpid(child, &status, 0)
            }
            if round % 8 == 7 || round == Self.rounds - 1 {
                try check(path, directory.path, collects: round % 16 == 7, "seed \(seed), round \(round)")
                collected += 1
            }
        }
        let numbers = try Self.streams.map { try Self.acknowledged("\(directory.path)/log-\($0)") }
        #expect(numbers.allSatisfy { $0 > UInt64(Self.rounds) }, "too little was written to prove anything: \(numbers)")
    }

    private func check(_ path: String, _ runtime: String, collects: Bool, _ what: String) throws {
        let store = try Store.open(try FileDisk.open(path), memory: .directory(runtime), indexBytes: 1 << 20)
        #expect(try store.scrub().findings == [], "\(what)")
        if collects { try store.collect() }
        let page = UnsafeMutableRawBufferPointer.allocate(byteCount: 8192, alignment: 4096)
        defer { page.deallocate() }
        for stream in Self.streams {
            let acknowledged = try Self.acknowledged("\(runtime)/log-\(stream)")
            guard acknowledged > 0 else { continue }
            let history = try store.history(stream)
            #expect(history.contains { $0.number == acknowledged }, "\(what): \(stream) lost \(acknowledged)")
            for entry in history.suffix(4) {
                let reader = try store.checkpoint(stream: stream, .number(entry.number))
                for index in 0..<64 as Range<UInt64> {
                    let back = (entry.number &- index) % 8
                    guard entry.number >= back, entry.number - back > 0, let key = PageKey(map: 0, page: index) else { continue }
                    let found = UnsafeMutableRawBufferPointer(rebasing: page[..<4096])
                    try reader.read(key, into: found)
                    let wanted = try #require(page.baseAddress) + 4096
                    Self.fill(wanted, index: index, number: entry.number - back)
                    #expect(
                        memcmp(try #require(found.baseAddress), wanted, 4096) == 0, "\(what): page \(index) of \(stream) \(entry.number)")
                }
            }
        }
    }

    /// The same as `ExercisePage.fill` in the program that writes.
    private static func fill(_ page: UnsafeMutableRawPointer, index: UInt64, number: UInt64) {
        var value = (number / 8 % 16) &* 0x9E37_79B9_7F4A_7C15 &+ index
        for offset in stride(from: 0, to: 4096, by: 8) {
            value = value &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            page.storeBytes(of: value, toByteOffset: offset, as: UInt64.self)
        }
    }

    /// The last whole number in a log.
    private static func acknowledged(_ path: String) throws -> UInt64 {
        let file = Int32(clinux_open(path, O_RDONLY, 0))
        guard file >= 0 else { return 0 }
        defer { close(file) }
        var number: UInt64 = 0
        let size = lseek(file, 0, SEEK_END) / 8
        guard size > 0 else { return 0 }
        try withUnsafeMutableBytes(of: &number) { try #require(pread(file, $0.baseAddress, 8, (size - 1) * 8) == 8) }
        return number
    }

    /// The program lies beside the tests.
    private static func program() throws -> String {
        var path = [CChar](repeating: 0, count: 4096)
        let count = readlink("/proc/self/exe", &path, path.count - 1)
        try #require(count > 0)
        // The test program is a bundle in the products' directory, or a helper of the toolchain that was given the bundle's path.
        let candidates =
            [path.withUnsafeBufferPointer { String(decoding: $0.prefix(count).map { UInt8(bitPattern: $0) }, as: UTF8.self) }]
            + CommandLine.arguments
        for candidate in candidates {
            var directory = Substring(candidate)
            while let slash = directory.lastIndex(of: "/") {
                directory = directory[..<slash]
                let program = "\(directory)/StoreExercise"
                if access(program, X_OK) == 0 { return program }
            }
        }
        throw StoreError.invalid(what: "test", reason: "StoreExercise is not beside \(candidates)")
    }

    private static func start(_ arguments: [String]) throws -> pid_t {
        var child: pid_t = 0
        var words: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) } + [nil]
        defer { for word in words { free(word) } }
        let result = posix_spawn(&child, arguments[0], nil, nil, &words, clinux_environment())
        try #require(result == 0, "cannot start \(arguments[0]): \(result)")
        return child
    }
}
