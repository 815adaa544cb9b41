import AgentProtocol
import Testing

@Suite struct AgentProtocolTests {
    @Test func versionIsOne() { #expect(agentProtocolVersion == 1) }

    @Test func textComparesAndCuts() {
        let text: Text = "/dev/vda (deleted)"
        #expect(text.hasPrefix("/dev/") && !text.hasPrefix("/dev/vda (deleted) and more"))
        #expect(text.hasSuffix(" (deleted)") && !text.hasSuffix("x/dev/vda (deleted)"))
        #expect(text.dropLast(10) == "/dev/vda")
        #expect(Text.decimal(-120).string == "-120" && Text.decimal(0).string == "0" && Text.decimal(.min).string == "\(Int.min)")
    }

    @Test func requestsWithZeroBytesInStringsAreRefused() {
        let bad = Text([65, 0, 66])
        for request in [
            StartRequest(arguments: [bad]), StartRequest(arguments: ["a"], environment: [bad]),
            StartRequest(arguments: ["a"], directory: bad),
            StartRequest(arguments: ["a"], user: bad), StartRequest(arguments: []), StartRequest(arguments: [""]),
        ] {
            #expect(throws: ProtocolFault.self) { try StartRequest(payload: request.encoded) }
        }
        #expect(throws: ProtocolFault.self) {
            try MountRequest(payload: MountRequest(device: "d", path: "relative", fileSystem: "f").encoded)
        }
    }

    @Test func valuesOutsideTheirRangeAreRefused() {
        #expect(throws: ProtocolFault.self) { try SignalRequest(payload: SignalRequest(signal: 65).encoded) }
        #expect(throws: ProtocolFault.self) { try SignalRequest(payload: SignalRequest(session: -1, signal: 1).encoded) }
        #expect(throws: ProtocolFault.self) { try SessionNumber(payload: SessionNumber(0).encoded) }
        #expect(throws: ProtocolFault.self) { try ExitStatus(payload: [1, 0]) }
        #expect(throws: ProtocolFault.self) { try ReseedRequest(payload: ReseedRequest(entropy: []).encoded) }
        let tooMuch = ReseedRequest(entropy: [UInt8](repeating: 0, count: 513))
        #expect(throws: ProtocolFault.self) { try ReseedRequest(payload: tooMuch.encoded) }
        #expect(throws: ProtocolFault.self) { try ProxyRequest(payload: [0, 0]) }
        #expect(throws: ProtocolFault.self) { try StdinCredit(payload: [255, 255, 255, 255]) }
        #expect(throws: ProtocolFault.self) { try Hello(payload: Hello(oldestVersion: 3, newestVersion: 2).encoded) }
        #expect(throws: ProtocolFault.self) { try ObjectsRequest(payload: [16, 0, 0, 0]) }
        let network = ConfigureRequest.Network(interface: "a-name-of-sixteen", address: 0, prefixLength: 0, gateway: 0)
        #expect(throws: ProtocolFault.self) { try ConfigureRequest(payload: ConfigureRequest(network: network).encoded) }
    }
}
