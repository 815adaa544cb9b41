import Testing

@testable import Store

@Suite struct PageLocationTests {
    @Test func keepsOffsetAndLength() throws {
        let location = try #require(PageLocation(offset: 64 * 12345, length: 1000))
        #expect(location.offset == 64 * 12345)
        #expect(location.length == 1000)
        #expect(!location.isZero)
    }

    @Test(arguments: [(63, 10), (64, 0), (64, 4097), (64 << 48, 1)] as [(UInt64, Int)])
    func refusesWhatDoesNotFit(offset: UInt64, length: Int) {
        #expect(PageLocation(offset: offset, length: length) == nil)
    }

    @Test func checksumsDifferBySeed() {
        let bytes = [UInt8](repeating: 7, count: 4096)
        bytes.withUnsafeBytes { buffer in
            #expect(Checksum(of: buffer) == Checksum(of: buffer))
            #expect(Checksum(of: buffer) != Checksum(of: buffer, seed: 1))
        }
    }
}
