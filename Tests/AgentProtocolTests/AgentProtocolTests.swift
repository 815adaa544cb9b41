import Testing
@testable import AgentProtocol
@Suite struct AgentProtocolTests { @Test func versionIsOne() { #expect(agentProtocolVersion == 1) } }
