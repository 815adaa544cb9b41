/// The version of the agent wire protocol that this source speaks.
public let agentProtocolVersion: UInt16 = 1
