import Linux
import Testing

@Suite struct EventDescriptorTests {
    @Test func drainTakesEverySignalOnce() throws {
        let event = try EventDescriptor()
        #expect(event.drain() == nil)
        event.signal()
        event.signal()
        #expect(event.drain() == 2)
        #expect(event.drain() == nil)
    }
}
