import Testing
@testable import Images
@Suite struct ImagesTests { @Test func placeholder() {} }
