package org.teamtr.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.teamtr.report.BenchmarkTable;
import org.teamtr.report.Json;

/** What {@code --json} prints, to the byte: programs read it, however the records behind it are grouped. */
class JsonOutputTest {
    private static String json(Object value) throws IOException {
        return Json.MAPPER.writeValueAsString(value).replace('"', '\'');
    }

    @Test
    void evaluation() throws IOException {
        assertEquals("{'team':'as configured','prompts':3,'k':2,'return_mean':0.5,'return_error':0.25,'avg_at_k':0.5,'pass_at_k':1.0,'all_of_k':0.0,"
                + "'tokens':70,'seconds':1.5}",
                json(new EvalCommand.Result("as configured", 3, 2, new EvalCommand.Scores(0.5, 0.25, 0.5, 1, 0), 70, 1.5)));
    }

    @Test
    void benchmarks() throws IOException {
        assertEquals("{'benchmark':'aime24','title':'AIME 24','mode':'chain','verifier':'math','k':4,'seeds':1,'counts':{'items':30},'figures':[],"
                + "'published':{'Single':10.0},'printed':'avg@4','caveat':['other items']}",
                json(new BenchmarkTable.Result("aime24", "AIME 24", new BenchmarkTable.Setting(BenchmarkTable.Mode.of("chain"), "math", 4, 1),
                        Map.of("items", 30L),
                        List.of(),
                        new BenchmarkTable.Paper(Map.of("Single", 10.0), "avg@4", List.of("other items")))));
    }

    @Test
    void doctor() throws IOException {
        assertEquals("{'version':'1','platform':'linux-x86_64','java':'17','kernels':'ABI 1','cpuLevel':'avx2','threads':2,"
                + "'backends':[{'name':'cpu','found':true,'detail':'avx2'}],'libraries':[],'checks':[],'ok':true}",
                new ObjectMapper().writeValueAsString(new DoctorCommand.Report(new DoctorCommand.Installation("1", "linux-x86_64", "17"),
                        new DoctorCommand.Kernels("ABI 1", "avx2", 2),
                        List.of(new DoctorCommand.Found("cpu", true, "avx2")), List.of(), List.of(), true)).replace('"', '\''));
    }
}
