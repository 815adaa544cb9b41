import Foundation
import Testing

@testable import Functions

struct JSONTextTests {
    @Test(arguments: [
        "{}", "[]", "null", " true ", "-0.5e+10", #""\u00e4\n""#, #"{"a":[1,{"b":null}],"c":""}"#, "[[],[[]]]", "0", "\"ä😀\"",
    ])
    func takesJSON(_ text: String) { #expect(JSONText.fault(in: Array(text.utf8)) == nil) }

    @Test(arguments: [
        "", " ", "{", "}", "[1,]", "{\"a\"}", "{\"a\":}", "{a:1}", "01", "1.", ".5", "+1", "1e", "nul", "tru", "\"", "\"\\x\"", "\"\\u12\"",
        "[1 2]", "{\"a\":1,}", "1 2", "\"\u{1}\"", "NaN", "'a'", "[}", "{]",
    ])
    func refusesTheRest(_ text: String) { #expect(JSONText.fault(in: Array(text.utf8)) != nil) }

    @Test func depthIsBounded() {
        let depth = JSONText.depthMax
        #expect(JSONText.fault(in: Array((String(repeating: "[", count: depth) + String(repeating: "]", count: depth)).utf8)) == nil)
        #expect(JSONText.fault(in: Array(String(repeating: "[", count: 1_000_000).utf8)) != nil)
        #expect(JSONText.fault(in: [0x22, 0xff, 0x22]) == "not UTF-8")
    }

    /// Agrees with an independent reader about texts that are nearly JSON.
    @Test(arguments: 0..<4) func agreesWithFoundation(_ round: Int) {
        let seed = UInt64.random(in: 0 ... .max)
        var generator = Splitmix(state: seed)
        let parts = ["{", "}", "[", "]", ",", ":", "\"a\"", "1", "-2.5", "true", "null", " ", "\"\\n\"", "0"]
        for _ in 0..<2000 {
            let text = (0..<Int.random(in: 1...9, using: &generator)).map { _ in parts.randomElement(using: &generator) ?? "" }.joined()
            // Foundation takes a comma before the end of an array or object, which RFC 8259 does not.
            let dense = text.replacingOccurrences(of: " ", with: "")
            if dense.contains(",]") || dense.contains(",}") { continue }
            let isJSON = (try? JSONSerialization.jsonObject(with: Data(text.utf8), options: .fragmentsAllowed)) != nil
            #expect((JSONText.fault(in: Array(text.utf8)) == nil) == isJSON, "\(text), seed \(seed)")
        }
    }
}
