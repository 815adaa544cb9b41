import Foundation
import Linux
import Testing

@testable import AuroraVMM

/// Generators of libraries in pages that a guest goes on with.
struct InheritedGeneratorsTests {
    private static let wordsOnPage = pageBytes / 8
    private static let time: UInt64 = 0x6b0c_3213
    private static let length: UInt64 = 0x7fff_ffff

    /// Fields as they were read from processes, by library; the place of the counter.
    private struct Known {
        let name: String
        var words: [UInt64]
        let counter: Int
    }

    private static let limits: [UInt64] = [0x100, 0x10000, 0x20, length, 0x10, length, length, length]
    private static let openSSL: [Known] = [
        Known(name: "1.1.1 first", words: limits + [0x100_0000_0002, time, 3600, 0x7_0000_0001, 0x30, 1, 0], counter: 8),
        Known(name: "1.1.1 of a thread", words: limits + [0x1_0000_0000_0005, time, 420, 0x2_0000_0001, 0x30, 1, 0], counter: 8),
        Known(
            name: "3 and 4 first", words: limits + [0x100_0000_0003, time, 3600, 0x2_0000_0002, 0, 0x30, 1, 0x556a_59fa_c550], counter: 8),
        Known(
            name: "3 and 4 of a thread", words: limits + [0x1_0000_0000_0002, time, 420, 0x3_0000_0003, 2, 0x30, 1, 0x556a_59fa_c550],
            counter: 8),
    ]

    /// Two pages of other contents, and a generator in them.
    private static func memory(_ words: [UInt64], at place: Int) throws -> (Mapping, [UInt64]) {
        let mapping = try Mapping.anonymous(count: 2 * pageBytes, what: "a test")
        var all = (0..<2 * wordsOnPage).map { UInt64($0) &* 0x9e37_79b9_7f4a_7c15 }
        all.replaceSubrange(place..<place + words.count, with: words)
        mapping.bytes.copyBytes(from: all.withUnsafeBytes { Array($0) })
        return (mapping, all)
    }

    private static func words(_ mapping: Mapping) -> [UInt64] { Array(mapping.bytes.bindMemory(to: UInt64.self)) }

    @Test func generatorsOfOpenSSLAreFoundWhereverAPageEnds() throws {
        for known in Self.openSSL {
            for place in Self.wordsOnPage - known.words.count - 1...Self.wordsOnPage + 1 {
                let (mapping, before) = try Self.memory(known.words, at: place)
                // Pages are fetched one by one.
                let found = [1, 0].map {
                    InheritedGenerators.expire(in: .init(start: mapping.base + $0 * pageBytes, count: pageBytes))
                }
                #expect(found.reduce(0, +) >= 1, "\(known.name) at \(place)")
                let counter = place + known.counter
                let after = Self.words(mapping)
                #expect(after[counter] & 0xffff_ffff == Self.length || after[counter + 1] == 0, "\(known.name) at \(place)")
                for index in before.indices where index != counter && index != counter + 1 { #expect(before[index] == after[index]) }
                #expect(after[counter] >> 32 == before[counter] >> 32)
            }
        }
    }

    @Test func whatIsExpiredStaysSo() throws {
        let (mapping, _) = try Self.memory(Self.openSSL[3].words, at: 100)
        let all = UnsafeMutableRawBufferPointer(start: mapping.base, count: mapping.count)
        #expect(InheritedGenerators.expire(in: all) == 1)
        let after = Self.words(mapping)
        #expect(after[108] == 0x1_0000_7fff_ffff && after[109] == 0)
        #expect(InheritedGenerators.expire(in: all) == 0)
        #expect(Self.words(mapping) == after)
    }

    @Test func generatorsOfGnuTLSAreFound() throws {
        let constant = Array("expand 32-byte k".utf8).withUnsafeBytes { Array($0.bindMemory(to: UInt64.self)) }
        let one = constant + [1, 2, 3, 4, 5, 6, 4711, 0, Self.time]
        let (mapping, before) = try Self.memory(one + one, at: 300)
        #expect(InheritedGenerators.expire(in: .init(start: mapping.base, count: mapping.count)) == 2)
        var expected = before
        expected[310] = 0
        expected[321] = 0
        #expect(Self.words(mapping) == expected)
    }

    /// Wherever a page ends, as long as the half with the counter or the time is on one page with the twin; the allocator gives even
    /// places.
    @Test func generatorsOfGnuTLSAreFoundWhereverAPageEnds() throws {
        let constant = Array("expand 32-byte k".utf8).withUnsafeBytes { Array($0.bindMemory(to: UInt64.self)) }
        let one = constant + [1, 2, 3, 4, 5, 6, 4711, 1, Self.time]
        var missed: [Int] = []
        for place in stride(from: 480, through: 520, by: 2) {
            let (mapping, before) = try Self.memory(one + one, at: place)
            for page in place % 4 == 0 ? [1, 0] : [0, 1] {
                InheritedGenerators.expire(in: .init(start: mapping.base + page * pageBytes, count: pageBytes))
            }
            var after = Self.words(mapping)
            for start in [place, place + 11] {
                if after[start + 8] <= 1 << 24, after[start + 10] != 0 { missed.append(start) }
                (after[start + 8], after[start + 10]) = (before[start + 8], before[start + 10])
            }
            #expect(after == before, "at \(place)")
        }
        // Its key is on the first page, count and time on the second, which has nothing else of it.
        #expect(missed == [505, 507, 509, 511])
    }

    /// Each field counts, and what resembles a generator in all but one is somebody else's.
    @Test func otherContentsStayAsTheyAre() throws {
        for known in Self.openSSL {
            for field in 1...known.counter + 3 {
                var words = known.words
                words[field] = 0xdead_beef_0bad_cafe
                let (mapping, before) = try Self.memory(words, at: 40)
                #expect(InheritedGenerators.expire(in: .init(start: mapping.base, count: mapping.count)) == 0, "\(known.name), \(field)")
                #expect(Self.words(mapping) == before)
            }
        }
        for filler in [0, Self.length, 0x10000, 0x3320_646e_6170_7865, .max] {
            let (mapping, _) = try Self.memory([UInt64](repeating: filler, count: 2 * Self.wordsOnPage), at: 0)
            #expect(InheritedGenerators.expire(in: .init(start: mapping.base, count: mapping.count)) == 0)
        }
    }

    /// A saved guest with a generator on each second page.
    private static func saved() throws -> (RecordedPages, [UInt64]) {
        let (mapping, words) = try memory(openSSL[2].words, at: 200)
        return (RecordedPages([mapping]), words)
    }

    @Test func restoredPagesHaveExpiredGenerators() throws {
        let (source, words) = try Self.saved()
        let mapping = try Mapping.anonymous(count: 2 * pageBytes, what: "a test")
        try source.readAll(into: [mapping])
        #expect(Self.words(mapping)[209] == 0)
        if LazyKit.isThere {
            let lazily = try Mapping.anonymous(count: 2 * pageBytes, what: "a test")
            let memory = try LazyMemory([lazily], source: source)
            #expect(Self.words(lazily)[209] == 0)
            memory.stop()
        }
        // The checkpoint itself is as it was.
        let plain = try Mapping.anonymous(count: pageBytes, what: "a test")
        try source.read(page: 0, count: 1, into: .init(start: plain.base, count: pageBytes))
        #expect(Self.words(plain)[209] == words[209])
    }
}
