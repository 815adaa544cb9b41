import AgentProtocol
import Testing

/// Cutting streams into frames and joining split messages, with good and bad bytes.
@Suite struct FrameDecoderTests {
    private func bytes(_ frames: [Frame]) -> [UInt8] {
        var bytes: [UInt8] = []
        for frame in frames { frame.append(to: &bytes) }
        return bytes
    }

    private func fault(_ bytes: [UInt8]) -> ProtocolFault? {
        var decoder = FrameDecoder()
        decoder.append(bytes)
        do throws(ProtocolFault) {
            while try decoder.next() != nil {}
            return nil
        } catch { return error }
    }

    @Test func anyCutGivesTheSameFrames() throws {
        let frames = (0..<20).map { Frame(.stdout, request: UInt32($0), payload: [UInt8](repeating: UInt8($0), count: $0 * 37)) }
        let stream = bytes(frames)
        for piece in [1, 2, 15, 16, 17, 100, stream.count] {
            var decoder = FrameDecoder()
            var found: [Frame] = []
            for start in stride(from: 0, to: stream.count, by: piece) {
                decoder.append(stream[start..<min(start + piece, stream.count)])
                while let frame = try decoder.next() { found.append(frame) }
            }
            #expect(found == frames, "pieces of \(piece) bytes")
            #expect(decoder.pendingBytes == 0)
        }
    }

    @Test func badHeadersAreNamed() {
        let good = bytes([Frame(.ping, request: 1)])
        func changed(_ offset: Int, _ value: UInt8) -> [UInt8] {
            var bytes = good
            bytes[offset] = value
            return bytes
        }
        #expect(fault(good) == nil)
        #expect(fault(changed(0, 0)) == ProtocolFault(.badMagic))
        #expect(fault(changed(2, 0x7F)) == ProtocolFault(.unknownType, at: 2))
        #expect(fault(changed(3, 0x02)) == ProtocolFault(.reservedBits, at: 3))
        #expect(fault(changed(11, 0x01)) == ProtocolFault(.tooLong, at: 8))
        #expect(fault(changed(15, 0x01)) == ProtocolFault(.reservedBits, at: 12))
    }

    @Test func missingBytesAreCounted() throws {
        let stream = bytes([Frame(.ping, request: 1, payload: [1, 2, 3])])
        var decoder = FrameDecoder()
        #expect(decoder.bytesMissing == 16)
        decoder.append(stream.prefix(10))
        #expect(decoder.bytesMissing == 6)
        decoder.append(stream[10..<17])
        #expect(decoder.bytesMissing == 2)
        decoder.append(stream[17...])
        #expect(try decoder.next()?.payload == [1, 2, 3])
    }

    @Test func longMessagesAreSplitAndJoined() throws {
        for count in [0, 1, AgentLimits.framePayloadBytesMax, AgentLimits.framePayloadBytesMax + 1, 300_000] {
            let payload = (0..<count).map { UInt8(truncatingIfNeeded: $0) }
            var stream: [UInt8] = []
            Frame.appendMessage(.objectReport, request: 9, payload: payload, to: &stream)
            var decoder = FrameDecoder()
            decoder.append(stream)
            var assembler = MessageAssembler(bytesMax: 300_000)
            var message: Frame?
            while let frame = try decoder.next() {
                #expect(message == nil)
                message = try assembler.add(frame)
            }
            #expect(message == Frame(.objectReport, request: 9, payload: payload))
        }
    }

    @Test func splitMessagesAreLimited() throws {
        var assembler = MessageAssembler(bytesMax: 100)
        #expect(try assembler.add(Frame(.start, request: 1, hasMore: true, payload: [UInt8](repeating: 0, count: 60))) == nil)
        #expect(throws: ProtocolFault(.tooLong)) {
            try assembler.add(Frame(.start, request: 1, payload: [UInt8](repeating: 0, count: 41)))
        }
        var interrupted = MessageAssembler(bytesMax: 100)
        _ = try interrupted.add(Frame(.start, request: 1, hasMore: true, payload: [1]))
        #expect(throws: ProtocolFault(.outOfOrder)) { try interrupted.add(Frame(.start, request: 2, payload: [1])) }
        var endless = MessageAssembler(bytesMax: 100)
        _ = try endless.add(Frame(.start, request: 1, hasMore: true))
        #expect(throws: ProtocolFault(.badValue)) { try endless.add(Frame(.start, request: 1, hasMore: true)) }
    }
}
