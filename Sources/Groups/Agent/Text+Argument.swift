public import AgentProtocol
internal import Linux

extension Text {
    /// The bytes of an argument or variable as the command line had them, UTF-8 or not.
    public init(argument text: String) { self.init(ByteText.bytes(text)) }
}
