/// A page given to an epoch.
public struct PageInput {
    /// Which page.
    public var key: PageKey
    /// Its 4096 bytes; nil for zeros.
    public var bytes: UnsafeRawPointer?

    /// Names a page and where its bytes are.
    public init(key: PageKey, bytes: UnsafeRawPointer?) {
        self.key = key
        self.bytes = bytes
    }
}
