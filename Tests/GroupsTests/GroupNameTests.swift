import Groups
import Testing

@Suite struct GroupNameTests {
    @Test(arguments: ["a", "0", "web-1", "A.b_c-d", String(repeating: "x", count: 63)])
    func acceptsNames(_ text: String) throws { #expect(try GroupName(text).text == text) }

    @Test(arguments: ["", "-a", ".a", "_a", "a/b", "..", "a b", "a\n", "é", "a\0", String(repeating: "x", count: 64)])
    func refusesNames(_ text: String) {
        #expect(throws: GroupError.self) { try GroupName(text) }
    }

    @Test func generatedNamesAreValid() {
        var generator = SystemRandomNumberGenerator()
        for attempt in 0..<200 { #expect(GroupName.isValid(GroupName.generated(attempt: attempt, using: &generator))) }
    }
}
