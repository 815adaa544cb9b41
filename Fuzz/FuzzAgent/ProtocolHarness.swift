import AgentProtocol
import CLinux

/// Reads bytes as either side of the agent protocol would.
///
/// What is accepted must survive being written and read again.
enum ProtocolHarness {
    private static let assembledBytesMax = 1 << 16

    /// A stream of frames, joined and then read by their types.
    static func readStream(_ bytes: [UInt8]) {
        var decoder = FrameDecoder()
        var assembler = MessageAssembler(bytesMax: assembledBytesMax)
        // Two pieces, so that frames are cut.
        for piece in [bytes.prefix(bytes.count / 2), bytes.dropFirst(bytes.count / 2)] {
            decoder.append(piece)
            do throws(ProtocolFault) {
                while let frame = try decoder.next() {
                    if let message = try assembler.add(frame) { readBody(message.type.rawValue, message.payload) }
                }
            } catch { return }
        }
    }

    /// One payload of the type with this number.
    static func readBody(_ type: UInt8, _ payload: [UInt8]) {
        let type = MessageType(rawValue: type) ?? MessageType.allCases[Int(type) % MessageType.allCases.count]
        switch type {
        case .hello: check(Hello.self, payload)
        case .configure: check(ConfigureRequest.self, payload)
        case .mount: check(MountRequest.self, payload)
        case .start: check(StartRequest.self, payload)
        case .attach, .started: check(SessionNumber.self, payload)
        case .resize: check(WindowSize.self, payload)
        case .signal: check(SignalRequest.self, payload)
        case .objects: check(ObjectsRequest.self, payload)
        case .setClock: check(ClockRequest.self, payload)
        case .reseed: check(ReseedRequest.self, payload)
        case .proxy: check(ProxyRequest.self, payload)
        case .shutdown: check(ShutdownRequest.self, payload)
        case .welcome: check(Welcome.self, payload)
        case .failed: check(Failure.self, payload)
        case .stdinCredit: check(StdinCredit.self, payload)
        case .exited: check(ExitStatus.self, payload)
        case .objectReport: check(ObjectReport.self, payload)
        case .functionAttach: check(FunctionAttach.self, payload)
        case .functionStart: check(FunctionStart.self, payload)
        case .functionRestored: check(FunctionRestored.self, payload)
        case .functionInvoke: check(FunctionInvoke.self, payload)
        case .functionState: check(FunctionState.self, payload)
        case .functionAnswer: check(FunctionAnswer.self, payload)
        case .functionEnd: check(FunctionEnd.self, payload)
        case .functionExited: check(ExitStatus.self, payload)
        case .functionMemory: check(FunctionMemory.self, payload)
        case .ping, .stdin, .stdinEnd, .sync, .done, .stdout, .stderr: break
        case .functionEvent, .functionKill, .functionMeasure, .functionLog, .functionBody: break
        }
    }

    private static func check<Body: MessageBody & Equatable>(_: Body.Type, _ payload: [UInt8]) {
        guard let body = try? Body(payload: payload) else { return }
        guard (try? Body(payload: body.encoded)) == body else {
            print("\(Body.self) does not survive being written and read again")
            abort()
        }
    }
}
