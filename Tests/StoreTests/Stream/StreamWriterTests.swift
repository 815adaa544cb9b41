import StoreSimulation
import Testing

@testable import Store

@Suite struct StreamWriterTests {
    private func makeStore(_ byteCount: UInt64 = 64 << 20) -> (Store, SimulatedDisk) {
        let disk = SimulatedDisk(byteCount: byteCount)
        return (Store(ground: BumpGround(disk: disk)), disk)
    }

    private func key(_ page: UInt64, map: UInt16 = 0) throws -> PageKey { try #require(PageKey(map: map, page: page)) }

    @Test func readsBackWhatWasClosed() throws {
        let (store, _) = makeStore()
        let writer = try store.createStream(name: "redis", time: 5)
        try writer.begin(1)
        try PageContents.add([(try key(3), 11), (try key(4), 0), (try key(7, map: 2), 12)], to: writer)
        let state = [UInt8](repeating: 9, count: 10000)
        try writer.close(bytes: state, name: "first", time: 77)
        let reader = try store.checkpoint(stream: "redis")
        #expect(reader.number == 1 && reader.time == 77 && reader.name == "first")
        #expect(try reader.state() == state)
        #expect(try PageContents.read(try key(3), from: reader) == PageContents.bytes(11))
        #expect(try PageContents.read(try key(7, map: 2), from: reader) == PageContents.bytes(12))
        #expect(try PageContents.read(try key(5), from: reader) == PageContents.bytes(0))
        #expect(try reader.locate(try key(4)) == nil)
        #expect(try writer.flush(upTo: 1) == 1)
    }
}
